"""Which words of a text are drawn, and which of them together."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from pairloom.table import Array

# Which tokens are drawn together:
# token: each alone (BERT). word: all tokens of a word (BERT's whole-word masking).
# anchors: words, and 0 to 2 words after each (InterBERT's paper). span: one stretch of random start and length
# (InterBERT's code). geometric: spans of words of geometric length, 10 at most, until the share is reached (SpanBERT).
# counted: words in random order until the share of the text's tokens, start and end among them, is reached. A word that
# would exceed it is passed over (BERT's create_pretraining_data), so that a text of a few long words stays whole.
# Geometric always hides a word. Of the others, whether one is hidden where none was drawn differs between systems.
By = Literal["token", "word", "anchors", "span", "geometric", "counted"]


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


def draw_tokens(
    word_ids_T: Array,
    by: By,
    probability: float,
    rng: np.random.Generator,
    some: bool = True,
    most: int | None = None,
) -> Array:
    """(T,) bool, tokens to be predicted. Never one that is part of no word. some: at least one if there is any.

    word_ids_T: those of words rise. most: tokens of a text, where they are `counted`.
    """
    eligible = word_ids_T >= 0
    words_N = word_ids_T[eligible]
    if by == "token" or not len(words_N):
        return draw_places(eligible, probability, rng, some)
    numbers_N = np.zeros(len(words_N), np.int64)  # of each token's word, from 0
    np.cumsum(words_N[1:] != words_N[:-1], out=numbers_N[1:])
    if by == "counted":
        wanted = max(1, round(probability * len(word_ids_T)))
        chosen_W = _counted(np.bincount(numbers_N), min(wanted, most or wanted), rng)
    else:
        chosen_W = draw_words(1 + int(numbers_N[-1]), by, probability, rng, some)
    chosen_T = np.zeros(len(word_ids_T), bool)
    chosen_T[eligible] = chosen_W[numbers_N]
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


def _counted(sizes_W: Array, wanted: int, rng: np.random.Generator) -> Array:
    """(W,) bool: words of so many tokens each, in random order, until `wanted` tokens are taken and never more."""
    chosen_W = np.zeros(len(sizes_W), bool)
    for word in rng.permutation(len(sizes_W)).tolist():
        if sizes_W[word] <= wanted:
            chosen_W[word] = True
            wanted -= int(sizes_W[word])
    return chosen_W
