"""Words and regions are hidden, as objectives share it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pairloom.errors import ConfigError
from pairloom.loader.batch import HIDDEN, IGNORE, ITSELF, Words
from pairloom.loader.draws import Draws
from pairloom.loader.examples import Examples, RegionColumns, spans
from pairloom.loader.tokenizer import Tokenizer
from pairloom.table import Array
from pairloom.typed import Share, check_ranges
from systems.objectives.drawing import By, draw_places, draw_tokens


@dataclass(frozen=True, kw_only=True)
class RegionMasking:
    """How regions are hidden that are to be predicted.

    hidden and replaced: shares of those drawn that are not seen, and that show another region's feature. The rest stays
    as it is. overlap: regions that share at least this much of their union with one drawn are hidden too, or their
    features would give it away; predict_overlapping: and predicted.
    """

    probability: Share = 0.15
    at_least_one: bool = True
    hidden: Share = 1.0
    replaced: Share = 0.0
    overlap: Share | None = None
    predict_overlapping: bool = True

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.hidden + self.replaced > 1:
            raise ConfigError(
                f"masking hides {self.hidden} and replaces {self.replaced}",
                where="the recipe",
                fix="set hidden and replaced together to at most 1",
            )


def mask_all_words(
    words: Words,
    counts: Sequence[int],
    tokenizer: Tokenizer,
    probability: float,
    rngs: Sequence[np.random.Generator],
    by: By = "token",
    some: bool = True,
    most: int | None = None,
) -> Words:
    """Hide tokens to be predicted: 80 % become the mask, 10 % a random token, 10 % stay (BERT, arXiv:1810.04805, A.1).

    words: many texts of so many tokens each, one after the other, each drawn with its own generator. Only tokens that
    are part of a word are drawn: never start, end or padding. A random token is an ordinary one, never a special one,
    and may be the token itself. An empty caption stays without labels. some, most: see `draw_tokens`.
    """
    texts = zip(spans(counts), rngs, strict=True)
    chosen = [draw_tokens(words.word_ids_T[start:end], by, probability, rng, some, most) for (start, end), rng in texts]
    return hide_all_words(words, counts, tokenizer, chosen, rngs)


def hide_all_words(
    words: Words,
    counts: Sequence[int],
    tokenizer: Tokenizer,
    chosen: Sequence[Array],
    rngs: Sequence[np.random.Generator],
) -> Words:
    """The same of tokens (bool) of each text that were drawn before."""
    ordinary = len(tokenizer.ordinary)
    drawn = [(rng.random(count), rng.integers(0, ordinary, count)) for count, rng in zip(counts, rngs, strict=True)]
    fate, substitute = map(np.concatenate, zip(*drawn, strict=True))
    return _hidden(words, tokenizer, np.concatenate(chosen), fate, tokenizer.ordinary[substitute])


def hide_words(
    words: Words, tokenizer: Tokenizer, chosen: Array, rng: np.random.Generator, mask_all: bool = False
) -> Words:
    """The same of these tokens (bool), drawn before. mask_all: each becomes the mask."""
    fate = np.zeros(len(chosen)) if mask_all else rng.random(len(chosen))
    return _hidden(words, tokenizer, chosen, fate, _substitutes(tokenizer, len(chosen), rng))


def _substitutes(tokenizer: Tokenizer, count: int, rng: np.random.Generator) -> Array:
    """Ordinary tokens: what rng.choice draws, in half of its time."""
    found: Array = tokenizer.ordinary[rng.integers(0, len(tokenizer.ordinary), count)]
    return found


def _hidden(words: Words, tokenizer: Tokenizer, chosen: Array, fate: Array, substitute: Array) -> Words:
    assert tokenizer.mask is not None, "the recipe was refused before"
    shown = np.where(fate < 0.8, tokenizer.mask, np.where(fate < 0.9, substitute, words.ids_T))
    ids, labels = np.where(chosen, shown, words.ids_T), np.where(chosen, words.ids_T, IGNORE)
    return Words(ids, words.word_ids_T, labels, words.segments_T)


def mask_regions(regions: RegionColumns, masking: RegionMasking, rngs: Sequence[np.random.Generator]) -> RegionColumns:
    """Draw regions to be predicted, and what is seen of each. Each image is drawn with its own generator."""
    draws = [_draw_regions(count, masking, rng) for count, rng in zip(regions.counts, rngs, strict=True)]
    drawn, fate, other = (np.concatenate(parts) for parts in zip(*draws, strict=True))
    shown = np.where(fate < masking.hidden, HIDDEN, np.where(fate < masking.hidden + masking.replaced, other, ITSELF))
    shown = np.where(drawn, shown, ITSELF)
    masked = drawn
    if masking.overlap is not None:
        near = _near(regions, drawn, masking.overlap) & ~drawn
        shown = np.where(near, HIDDEN, shown)
        masked = drawn | near if masking.predict_overlapping else drawn
    columns = {**regions.columns, "masked_R": masked, "shown_R": shown.astype(np.int64)}
    return replace(regions, columns=columns)


def _draw_regions(count: int, masking: RegionMasking, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """Of each region of an image: whether it is drawn, its fate from 0 to 1, and another region of the batch."""
    drawn = draw_places(np.ones(count, bool), masking.probability, rng, masking.at_least_one)
    return drawn, rng.random(count), rng.integers(0, 1 << 31, count)


def _near(regions: RegionColumns, drawn_N: Array, least: float) -> Array:
    """(N,) bool, regions that share so much of their union with one that is drawn of the same image."""
    found = []
    for start, end in spans(regions.counts):
        boxes_R7, drawn_R = regions.columns["boxes_R7"][start:end], drawn_N[start:end]
        found.append((overlaps(boxes_R7[drawn_R], boxes_R7) >= least).any(axis=0))
    near: Array = np.concatenate(found)
    return near


def hide_regions(examples: Examples, masking: RegionMasking | None, draws: Draws) -> Examples:
    """The examples with some of their regions hidden, or as they are."""
    return (
        examples if masking is None else replace(examples, units=mask_regions(examples.regions(), masking, draws.rngs))
    )


def without_regions(examples: Examples) -> Examples:
    """None of the regions: what a text alone comes with."""
    regions = examples.regions()
    columns = {name: values[:0] for name, values in regions.columns.items()}
    nothing = RegionColumns([0] * len(examples), [features[:0] for features in regions.features], columns)
    return replace(examples, units=nothing)


def overlaps(some_N7: Array, boxes_R7: Array) -> Array:
    """(N, R) intersection over union of boxes. Without the pixel that ViLBERT's code adds.

    Not pairloom.boxes.iou: the boxes are shares of the picture with their area beside them, and stay float32.
    """
    low = np.maximum(some_N7[:, None, :2], boxes_R7[:, :2])
    shared = (np.minimum(some_N7[:, None, 2:4], boxes_R7[:, 2:4]) - low).clip(min=0).prod(axis=-1)
    union = some_N7[:, None, 6] + boxes_R7[:, 6] - shared
    found: Array = shared / np.maximum(union, 1e-12)
    return found
