"""Which words and regions are hidden: the draws that objectives share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from pairloom.errors import ConfigError
from pairloom.loader.batch import HIDDEN, IGNORE, ITSELF, Words
from pairloom.loader.draws import Draws
from pairloom.loader.examples import Examples, RegionColumns, spans
from pairloom.loader.tokenizer import Tokenizer
from pairloom.table import Array
from pairloom.typed import Share, check_ranges

# Which tokens are drawn together:
# token: each alone (BERT). word: all tokens of a word (BERT's whole-word masking).
# anchors: words, and 0 to 2 words after each (InterBERT's paper). span: one stretch of random start and length
# (InterBERT's code). geometric: spans of words of geometric length, 10 at most, until the share is reached (SpanBERT).
# The last always hides a word. Of the others, whether one is hidden where none was drawn differs between systems.
By = Literal["token", "word", "anchors", "span", "geometric"]


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


def draw_places(eligible_N: Array, probability: float, rng: np.random.Generator, some: bool = True) -> Array:
    """(N,) bool: each eligible place with this probability.

    eligible_N: bool. some: if that leaves none, one of them, all equally likely.
    UNITER's code does the same for regions, but takes the first word of a caption where no word was drawn.
    """
    chosen_N: Array = eligible_N & (rng.random(len(eligible_N)) < probability)
    if some and not chosen_N.any():
        places = eligible_N.nonzero()[0]
        if len(places):
            chosen_N[places[rng.integers(len(places))]] = True
    return chosen_N


def draw_tokens(word_ids_T: Array, by: By, probability: float, rng: np.random.Generator, some: bool = True) -> Array:
    """(T,) bool, tokens to be predicted. Never one that is part of no word. some: at least one if there is any.

    word_ids_T: those of words rise.
    """
    eligible = word_ids_T >= 0
    words_N = word_ids_T[eligible]
    if by == "token" or not len(words_N):
        return draw_places(eligible, probability, rng, some)
    numbers_N = np.zeros(len(words_N), np.int64)  # of each token's word, from 0
    np.cumsum(words_N[1:] != words_N[:-1], out=numbers_N[1:])
    chosen_T = np.zeros(len(word_ids_T), bool)
    chosen_T[eligible] = draw_words(1 + int(numbers_N[-1]), by, probability, rng, some)[numbers_N]
    return chosen_T


def draw_words(count: int, by: By, probability: float, rng: np.random.Generator, some: bool = True) -> Array:
    """(count,) bool: which words of a text are hidden."""
    if by == "span":
        return _span(count, rng, some)
    if by == "geometric":
        return _geometric(count, math.ceil(probability * count), rng)
    chosen = draw_places(np.ones(count, bool), probability, rng, some)
    if by == "anchors":
        for anchor in np.flatnonzero(chosen).tolist():
            chosen[anchor : anchor + 1 + int(rng.integers(3))] = True
    return chosen


def _span(count: int, rng: np.random.Generator, some: bool) -> Array:
    """One stretch of random start and length. Not `some`: in InterBERT's code it may start after the last word, and a
    caption of up to three words stays whole.
    """
    chosen = np.zeros(count, bool)
    if some or int(0.3 * count) > 0:
        start, length = int(rng.integers(count if some else count + 1)), int(rng.integers(1, count + 1))
        chosen[start : start + length] = True
    return chosen


SPAN_LENGTHS = 0.2 * 0.8 ** np.arange(10)  # of 1 to 10 words, before their sum becomes 1
UP_TO = np.cumsum(SPAN_LENGTHS / SPAN_LENGTHS.sum())
UP_TO /= UP_TO[-1]


def span_length(rng: np.random.Generator) -> int:
    """Words of a span: Geometric(0.2) among 1 to 10, mean 3.8 (SpanBERT, arXiv:1907.10529, section 3.1)."""
    return 1 + int(UP_TO.searchsorted(rng.random(), side="right"))  # as rng.choice, which looks at them each time


def _geometric(count: int, wanted: int, rng: np.random.Generator) -> Array:
    """Spans at random starts until `wanted` words are hidden. The last may be cut."""
    chosen = np.zeros(count, bool)
    while chosen.sum() < wanted:
        length = min(span_length(rng), wanted - int(chosen.sum()))
        start = int(rng.integers(count))
        chosen[start : start + length] = True
    return chosen


def mask_all_words(
    words: Words,
    counts: Sequence[int],
    tokenizer: Tokenizer,
    probability: float,
    rngs: Sequence[np.random.Generator],
    by: By = "token",
    some: bool = True,
) -> Words:
    """Hide tokens to be predicted: 80 % become the mask, 10 % a random token, 10 % stay (BERT, arXiv:1810.04805, A.1).

    words: many texts of so many tokens each, one after the other, each drawn with its own generator. Only tokens that
    are part of a word are drawn: never start, end or padding. A random token is an ordinary one, never a special one,
    and may be the token itself. An empty caption stays without labels. some: see `draw_tokens`.
    """
    texts = zip(spans(counts), rngs, strict=True)
    chosen = [draw_tokens(words.word_ids_T[start:end], by, probability, rng, some) for (start, end), rng in texts]
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
