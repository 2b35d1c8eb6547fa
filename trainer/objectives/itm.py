"""Objective `itm`: image-text matching, whether words and image belong together, with mined hard negatives."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from schemas.errors import ConfigError
from trainer.batch import Batch, Example
from trainer.contract import Scored, Shapes
from trainer.layers import initialised
from trainer.models.single_stream import Encoded, SingleStream
from trainer.objectives.alignment import alignment_distance, word_region_alignment

if TYPE_CHECKING:
    from trainer.data import Make
    from trainer.rows import Row

PAIRS_AT_ONCE = 128  # of a retrieval test


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Which rows become negatives, and of what kind.

    replace: what a negative has from elsewhere, the text or the image. hard_share: share of the negatives that take
    one of the caption's mined hard negatives; the others take a random caption or image of the same shard.
    alignment: weight of word-region alignment beside the matching loss.
    """

    negative_probability: float
    replace: Literal["text", "image"]
    hard_share: float
    alignment: float = 0.0

    def __post_init__(self) -> None:
        if self.replace == "image" and self.hard_share > 0:
            raise ConfigError(
                f"itm.hard_share is {self.hard_share}, but mined negatives are texts",
                where="the recipe",
                fix="set itm.replace to text, or itm.hard_share to 0",
            )


def columns(settings: Settings) -> tuple[str, ...]:
    return ("negatives",) if settings.hard_share > 0 else ()


def head(settings: Settings, model: SingleStream, shapes: Shapes) -> nn.Linear:
    return initialised(nn.Linear(model.hidden, 2), model.init_std)


def prepare(row: Row, make: Make, settings: Settings, rng: np.random.Generator) -> Example:
    """The row as it is, or with another text or image. Alone in its shard, an image can only be a positive."""
    if rng.random() >= settings.negative_probability:
        return make(row, rng)
    if settings.replace == "image":
        other = row.other(rng)
        return replace(make(row, rng, image=other), match=other is None)
    text = negative_text(row, settings.hard_share, rng)
    return replace(make(row, rng, text=text), match=text is None)


def negative_text(row: Row, hard_share: float, rng: np.random.Generator) -> str | None:
    """A text that does not describe the row's image: mined for this caption, or any of another image of the shard.

    Where mining found nothing, a random one is taken. None if the shard holds no other image.
    """
    mined = row.negatives() if rng.random() < hard_share else []
    if mined:
        return mined[rng.integers(len(mined))]
    other = row.other(rng)
    return None if other is None else other.text


def loss(model: SingleStream, head: nn.Linear, batch: Batch, settings: Settings) -> Scored:
    encoded = model(batch)
    logits_B2 = head(encoded.pooled_BH)
    value = image_text_matching(logits_B2, batch.match_B)
    if settings.alignment > 0:
        value = value + settings.alignment * word_region_alignment(_distance(encoded, batch), batch.match_B)
    right = (logits_B2.argmax(dim=-1) == batch.match_B.long()).sum()
    return Scored(value, torch.tensor(len(batch)), right)


def _distance(encoded: Encoded, batch: Batch) -> Tensor:
    assert batch.regions is not None
    seen_BT, seen_BR = batch.words.attention_mask_BT, batch.regions.mask_BR
    return alignment_distance(encoded.words_BTH, encoded.regions_BRH, seen_BT, seen_BR)


def image_text_matching(logits_B2: Tensor, match_B: Tensor) -> Tensor:
    """Mean cross-entropy of mismatch (0) against match (1), as UNITER numbers them. Returns a scalar."""
    return F.cross_entropy(logits_B2.float(), match_B.long())


def similarity(model: SingleStream, head: nn.Linear, settings: Settings, images: Batch, texts: Batch) -> Tensor:
    """(I, N): logit of match less logit of mismatch for every pair; each costs a pass through the model.

    Where the recipe trains word-region alignment, its weighted distance is taken off.
    """
    pairs_P2 = torch.cartesian_prod(torch.arange(len(images)), torch.arange(len(texts)))
    scores = []
    for image_P, text_P in (block.unbind(dim=1) for block in torch.split(pairs_P2, PAIRS_AT_ONCE)):
        pair = replace(images.take(image_P), words=texts.take(text_P).words)
        encoded = model(pair)
        logits_P2 = head(encoded.pooled_BH)
        score_P = logits_P2[:, 1] - logits_P2[:, 0]
        if settings.alignment > 0:
            score_P = score_P - settings.alignment * _distance(encoded, pair)
        scores.append(score_P)
    return torch.cat(scores).view(len(images), len(texts))
