"""Objective `contrastive`: each image finds its text among the batch's, and each text its image (InfoNCE)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.batch import Batch, Example
from trainer.contract import Embedded, Scored, Shapes, Towers

if TYPE_CHECKING:
    from trainer.data import Make
    from trainer.rows import Row


@dataclass(frozen=True, kw_only=True)
class Settings:
    """same_image: what another caption of the same image is, should it be in the batch: a negative, or left out."""

    temperature: float  # at the start; learned
    max_scale: float  # the inverse of the lowest temperature
    same_image: Literal["negative", "ignore"]


def columns(settings: Settings) -> tuple[str, ...]:
    return ()


class Head(nn.Module):
    """The learned scale, as its logarithm."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / settings.temperature)))
        self.largest = math.log(settings.max_scale)

    def forward(self) -> Tensor:
        """The scale. Clamped in place, so that it can come back, as CLIP's authors and open_clip do after each step."""
        with torch.no_grad():
            self.log_scale.clamp_(0, self.largest)
        return self.log_scale.exp()


def head(settings: Settings, model: Towers, shapes: Shapes) -> Head:
    return Head(settings)


def prepare(example: Example, row: Row, make: Make, settings: Settings, rng: np.random.Generator) -> Example:
    """The row as it is: the rest of the batch are its negatives."""
    return example


def loss(model: Towers, encoded: Embedded, head: Head, batch: Batch, settings: Settings) -> Scored:
    logits_BB = head() * encoded.images_BE @ encoded.texts_BE.t()
    same_BB = same_image(batch.image_number_B) if settings.same_image == "ignore" else None
    answers_B = torch.arange(len(batch), device=logits_BB.device)
    right = (logits_BB.argmax(dim=-1) == answers_B).sum()
    return Scored(info_nce(logits_BB, same_BB), torch.tensor(len(batch)), right, answers_B)


def same_image(image_number_B: Tensor) -> Tensor:
    """(B, B) bool: pairs of different rows that show the same image."""
    same_BB = image_number_B[:, None] == image_number_B[None, :]
    return same_BB & ~torch.eye(len(same_BB), dtype=torch.bool, device=same_BB.device)


def info_nce(logits_BB: Tensor, ignored_BB: Tensor | None = None) -> Tensor:
    """Mean of the cross-entropies along rows and columns, the diagonal being right (CLIP, arXiv:2103.00020, figure 3).

    logits: scaled similarities, images down and texts across. ignored: bool, pairs that are neither right nor wrong;
    never on the diagonal. Returns a scalar, 0 for a batch of one.
    """
    logits_BB = logits_BB.float()
    if ignored_BB is not None:
        logits_BB = logits_BB.masked_fill(ignored_BB, torch.finfo(logits_BB.dtype).min)
    target_B = torch.arange(len(logits_BB), device=logits_BB.device)
    return (F.cross_entropy(logits_BB, target_B) + F.cross_entropy(logits_BB.t(), target_B)) / 2


def similarity(model: Towers, head: Head, settings: Settings, images: Batch, texts: Batch) -> Tensor:
    """(I, N): cosine of every image with every text."""
    return model.images(images) @ model.texts(texts).t()
