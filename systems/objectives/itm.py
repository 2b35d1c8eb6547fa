"""Objective `itm`: image-text matching, whether words and image belong together, with mined hard negatives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pairloom.errors import ConfigError
from pairloom.loader.batch import Batch, WordBatch
from pairloom.loader.pair import Pair
from pairloom.loader.questions import another
from pairloom.loader.row import Row
from pairloom.typed import Share, check_ranges
from systems.grids import cells_of
from systems.layers import initialised
from systems.objectives.alignment import alignment_distance, word_region_alignment
from trainer.contract import Convolutional, Encoded, Fusion, Scored, Shapes
from trainer.precision import as_float32

PAIRS_AT_ONCE = 128  # of a retrieval test


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Which rows become negatives, and of what kind.

    replace: what a negative has from elsewhere, the text or the image. hard_share: share of the negatives that take
    one of the caption's mined hard negatives. The others take a random caption or image of the same row group.
    alignment: weight of word-region alignment beside the matching loss. aligned: all tokens, or those of words alone.
    reads: `pooled` is the model's vector for both, through a layer with a bias. `first` the first token as it is,
    through one without (SOHO).
    """

    negative_probability: Share
    replace: Literal["text", "image"]
    hard_share: Share
    alignment: float = 0.0
    aligned: Literal["tokens", "words"] = "tokens"
    reads: Literal["pooled", "first"] = "pooled"

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.replace == "image" and self.hard_share > 0:
            raise ConfigError(
                f"itm.hard_share is {self.hard_share}, but mined negatives are texts",
                where="the recipe",
                fix="set itm.replace to text, or itm.hard_share to 0",
            )


def columns(settings: Settings) -> tuple[str, ...]:
    return ("negatives",) if settings.hard_share > 0 else ()


def head(settings: Settings, model: Fusion, shapes: Shapes) -> nn.Linear:
    if settings.reads == "first":
        return initialised(nn.Linear(model.widths.words, 2, bias=False), model.init_std)
    return initialised(nn.Linear(model.widths.pooled, 2), model.init_std)


def matched(encoded: Encoded, head: nn.Linear, settings: Settings) -> Tensor:
    """(B, 2) logits of mismatch and match."""
    logits_B2: Tensor = head(encoded.words_BTH[:, 0] if settings.reads == "first" else encoded.pooled_BH)
    return logits_B2


def pair(pair: Pair, settings: Settings, rng: np.random.Generator) -> Pair:
    """The pair as it is, or with another text or image. Alone in its row group, an image can only be a positive."""
    if rng.random() >= settings.negative_probability:
        return pair
    if settings.replace == "image":
        other = pair.row.other(rng)
        return pair if other is None else replace(pair, image=other, mismatch=1)
    if pair.question is None:
        text = negative_text(pair.row, settings.hard_share, rng)
    else:  # another question: of captions alone, a question would always be the image's
        question = another(pair.row, rng)
        text = None if question is None else question.text
    return pair if text is None else replace(pair, text=text, mismatch=1)


def negative_text(row: Row, hard_share: float, rng: np.random.Generator) -> str | None:
    """A text that does not describe the row's image: mined for this caption, or any of another image of the row group.

    Where mining found nothing, a random one is taken. None if the row group holds no other image.
    """
    mined = row.negatives() if rng.random() < hard_share else []
    if mined:
        return mined[rng.integers(len(mined))]
    other = row.other(rng)
    return None if other is None else other.text


def loss(model: Fusion, encoded: Encoded, head: nn.Linear, batch: Batch, settings: Settings) -> Scored:
    logits_B2 = matched(encoded, head, settings)
    value = image_text_matching(logits_B2, batch.match_B)
    if settings.alignment > 0:
        value = value + settings.alignment * word_region_alignment(_distance(encoded, batch, settings), batch.match_B)
    return Scored.of_classes(logits_B2, batch.match_B.long(), value)


def _distance(encoded: Encoded, batch: Batch, settings: Settings) -> Tensor:
    seen_BT = batch.words.attention_mask_BT if settings.aligned == "tokens" else batch.words.word_ids_BT >= 0
    return alignment_distance(encoded.words_BTH, encoded.units_BUH, seen_BT, encoded.units_BU)


def image_text_matching(logits_B2: Tensor, match_B: Tensor) -> Tensor:
    """Mean cross-entropy of mismatch (0) against match (1), as UNITER numbers them. Returns a scalar."""
    return F.cross_entropy(as_float32(logits_B2), match_B.long())


def similarity(model: Fusion, head: nn.Linear, settings: Settings, images: Batch, texts: Batch) -> Tensor:
    """(I, N): logit of match less logit of mismatch for every pair. Each costs a pass through the model.

    Where the recipe trains word-region alignment, its weighted distance is taken off.
    """

    def score(pairs: Batch) -> Tensor:
        encoded = model(pairs)
        logits_P2 = matched(encoded, head, settings)
        score_P: Tensor = logits_P2[:, 1] - logits_P2[:, 0]
        return score_P - settings.alignment * _distance(encoded, pairs, settings) if settings.alignment > 0 else score_P

    return every_pair(model, images, texts, score)


def every_pair(model: Fusion, images: Batch, texts: Batch, score: Callable[[Batch], Tensor]) -> Tensor:
    """(I, N) the score of each image with each text. A second text, such as tags, comes with the image.

    A model's `backbone` sees each image once, not once a text.
    """
    if isinstance(model, Convolutional) and (backbone := model.backbone) is not None:
        images = replace(images, cells=cells_of(images, backbone))
    pairs_P2 = torch.cartesian_prod(torch.arange(len(images)), torch.arange(len(texts)))
    scores = []
    for image_P, text_P in (block.unbind(dim=1) for block in torch.split(pairs_P2, PAIRS_AT_ONCE)):
        taken, words = images.take(image_P), texts.take(text_P).words
        scores.append(score(replace(taken, words=with_second_text(words, taken.words))))
    return torch.cat(scores).view(len(images), len(texts))


def with_second_text(words: WordBatch, other: WordBatch) -> WordBatch:
    """The first texts of the one and the second texts of the other, with padding in between."""
    if not other.segments_BT.any():
        return words
    first_BT = words.attention_mask_BT & (words.segments_BT == 0)
    second_BT = other.attention_mask_BT & (other.segments_BT == 1)

    def both(name: str) -> Tensor:
        return torch.cat([getattr(words, name), getattr(other, name)], dim=1)

    joined = {field.name: both(field.name) for field in fields(WordBatch)}
    return WordBatch(**joined | {"attention_mask_BT": torch.cat([first_BT, second_BT], dim=1)})
