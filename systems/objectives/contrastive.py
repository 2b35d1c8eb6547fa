"""Objective `contrastive`: each image finds its text among the batch's, and each text its image (InfoNCE)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.distributed.nn.functional import all_gather

from devices.ranks import several
from pairloom.loader.batch import Batch, WordBatch, map_tensors
from pairloom.typed import Share, check_ranges
from trainer.contract import Embedded, Scored, Shapes, Towers

SEVERAL_TEXTS = True
LOWEST_TEMPERATURE = 1e-3  # ALIGN's own ends near 1/64


@dataclass(frozen=True, kw_only=True)
class Settings:
    """same_image: what another caption of the same image is, should it be in the batch: a negative, or left out.

    learned: `log_scale` is CLIP's factor, kept from 1 to max_scale. `temperature` is ALIGN's divisor, which is kept
    from 1 / max_scale on.
    reduction: of the two directions. smoothing: share of each label that is spread over the batch.
    """

    temperature: float  # at the start
    same_image: Literal["negative", "ignore"]
    max_scale: float | None = None  # the inverse of the lowest temperature
    learned: Literal["log_scale", "temperature"] = "log_scale"
    reduction: Literal["mean", "sum"] = "mean"
    smoothing: Share = 0.0

    def __post_init__(self) -> None:
        check_ranges(self)


class Head(nn.Module):
    """The learned scale: as its logarithm, or as a temperature."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        logarithm = settings.learned == "log_scale"
        start = math.log(1 / settings.temperature) if logarithm else settings.temperature
        self.logarithm, self.value = logarithm, nn.Parameter(torch.tensor(start))
        largest = settings.max_scale
        self.bounds: tuple[float, float | None] = (0.0, None if largest is None else math.log(largest))
        if not logarithm:  # a step past zero would turn every similarity around
            self.bounds = LOWEST_TEMPERATURE if largest is None else 1 / largest, None

    def forward(self) -> Tensor:
        """The scale. Clamped in place, so that it can come back, as CLIP's authors and open_clip do after each step."""
        with torch.no_grad():
            self.value.clamp_(*self.bounds)
        return self.value.exp() if self.logarithm else 1 / self.value


def head(settings: Settings, model: Towers, shapes: Shapes) -> Head:
    return Head(settings)


def loss(model: Towers, encoded: Embedded, head: Head, batch: Batch, settings: Settings) -> Scored:
    """The mean over the texts of each row, where the recipe draws several. Predictions are those of the first."""
    own = between(encoded.images_BE, encoded.texts_BE, head, batch, settings)
    losses = [own.loss]
    for words in () if batch.others is None else unstacked(batch.others):
        texts_BE = model.texts(replace(batch, words=words))
        losses.append(between(encoded.images_BE, texts_BE, head, batch, settings).loss)
    return replace(own, loss=torch.stack(losses).mean())


def unstacked(others: WordBatch) -> Iterator[WordBatch]:
    """The first further text of all rows, then the second …"""
    for number in range(others.input_ids_BT.shape[1]):
        yield map_tensors(others, lambda tensor, number=number: tensor[:, number])  # type: ignore[misc]


def between(images_BE: Tensor, texts_BE: Tensor, head: Head, batch: Batch, settings: Settings) -> Scored:
    """The loss over the rows of all ranks. Each rank has equally many. DDP's mean of the gradients is then its own."""
    keys_B = image_keys(batch.image_ids).to(texts_BE.device)
    images_GE, texts_GE, keys_G = gathered(images_BE), gathered(texts_BE), gathered(keys_B)
    logits_GG = head() * images_GE @ texts_GE.t()
    same_GG = same_image(keys_G) if settings.same_image == "ignore" else None
    answers_G = torch.arange(len(logits_GG), device=logits_GG.device)
    value = info_nce(logits_GG, same_GG, settings.smoothing, settings.reduction)
    return Scored.of_classes(logits_GG, answers_G, value)


def image_keys(image_ids: Sequence[bytes]) -> Tensor:
    """(B,) int64, equal for equal images, on every rank."""
    halves_B2 = np.frombuffer(b"".join(image_ids), "<i8").reshape(-1, 2)
    return torch.from_numpy(halves_B2[:, 0] ^ halves_B2[:, 1])


def gathered(rows: Tensor) -> Tensor:
    """The rows of all ranks, in their order. Gradients find their way back to the rank that a row came from."""
    if not several():
        return rows
    if rows.requires_grad:
        return torch.cat(all_gather(rows))
    parts = [torch.empty_like(rows) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, rows)
    return torch.cat(parts)


def same_image(image_number_B: Tensor) -> Tensor:
    """(B, B) bool: pairs of different rows that show the same image."""
    same_BB = image_number_B[:, None] == image_number_B[None, :]
    return same_BB & ~torch.eye(len(same_BB), dtype=torch.bool, device=same_BB.device)


def info_nce(
    logits_BB: Tensor, ignored_BB: Tensor | None = None, smoothing: float = 0.0, reduction: str = "mean"
) -> Tensor:
    """Mean of the cross-entropies along rows and columns, the diagonal being right (CLIP, arXiv:2103.00020, figure 3).

    logits: scaled similarities, images down and texts across. ignored: bool, pairs that are neither right nor wrong.
    Never on the diagonal. reduction: `sum` of the two directions, not their mean, is ALIGN's (arXiv:2102.05918,
    section 4.2). smoothing spreads over the pairs that are not ignored. Returns a scalar, 0 for a batch of one.
    """
    logits_BB = logits_BB if logits_BB.dtype == torch.float64 else logits_BB.float()
    ignored_BB = torch.zeros_like(logits_BB, dtype=torch.bool) if ignored_BB is None else ignored_BB
    logits_BB = logits_BB.masked_fill(ignored_BB, torch.finfo(logits_BB.dtype).min)
    total = _smoothed(logits_BB, ignored_BB, smoothing) + _smoothed(logits_BB.t(), ignored_BB.t(), smoothing)
    return total if reduction == "sum" else total / 2


def _smoothed(logits_BB: Tensor, ignored_BB: Tensor, smoothing: float) -> Tensor:
    """Cross-entropy of each row with its diagonal, a share of which is spread over all that is not ignored."""
    log_BB = logits_BB.log_softmax(dim=-1)
    spread_B = torch.where(ignored_BB, 0, log_BB).sum(dim=-1) / (~ignored_BB).sum(dim=-1)
    return -((1 - smoothing) * log_BB.diagonal() + smoothing * spread_B).mean()


def similarity(model: Towers, head: Head, settings: Settings, images: Batch, texts: Batch) -> Tensor:
    """(I, N): cosine of every image with every text."""
    return of_vectors(model.images(images), model.texts(texts))


def of_vectors(images_IE: Tensor, texts_NE: Tensor) -> Tensor:
    """(I, N): cosine of vectors of length 1."""
    return images_IE @ texts_NE.t()
