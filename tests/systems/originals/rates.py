"""How many words and regions are hidden, and what is seen of them: the originals', and ours to four standard errors."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pairloom.loader.batch import HIDDEN, IGNORE, ITSELF, Words
from pairloom.loader.examples import RegionColumns
from systems.objectives import mlm
from systems.objectives.drawing import By
from systems.objectives.masking import RegionMasking, mask_all_words, mask_regions
from tests.systems.originals.drawn import Numbers

CAPTIONS, OURS, LENGTHS = 20_000, 3_000, (1, 5, 10)
MASK, OTHERS, WORD = 103, range(1000, 2000), 500
TOKENS = {"[MASK]": MASK, "[UNK]": 100, str(WORD): WORD, **{str(word): word for word in OTHERS}}
NAMES = ("hidden", "none", "masked", "replaced")


def tally(
    hide: Callable[[int], tuple[Sequence[bool], Sequence[int]]],
    captions: int = CAPTIONS,
    lengths: Sequence[int] = LENGTHS,
) -> Numbers:
    """hide: a length -> for each place whether it is to be predicted, and 1 where it is masked, 2 where replaced.

    Returns for each length the means over captions: places hidden, captions with none, places masked, replaced.
    """
    random.seed(0)
    np.random.seed(0)  # the originals draw from the global generators
    found: Numbers = {}
    for length in lengths:
        rows = [hide(length) for _ in range(captions)]
        found[str(length)] = dict(zip(NAMES, np.mean([_row(*row) for row in rows], axis=0).tolist(), strict=True))
    return found


def _row(hidden: Sequence[bool], shown: Sequence[int]) -> list[float]:
    return [sum(hidden), not any(hidden), sum(one == 1 for one in shown), sum(one == 2 for one in shown)]


def kinds_of(tokens: Sequence[Any]) -> list[int]:
    """What is seen of words that were all WORD. A word's replacement may be the mask, once in a thousand."""
    numbers = [TOKENS[token] if isinstance(token, str) else token for token in tokens]
    return [1 if token == MASK else 2 if token != WORD else 0 for token in numbers]


def of(settings: mlm.Settings) -> dict[str, Any]:
    """Of a recipe's objective, what `mask_all_words` takes."""
    names = {"probability": "probability", "by": "by", "some": "at_least_one", "most": "most"}
    return {name: getattr(settings, theirs) for name, theirs in names.items()}


def words_alike(
    wanted: Numbers,
    names: Sequence[str] = NAMES,
    *,
    probability: float,
    by: By = "token",
    some: bool = True,
    most: int | None = None,
    lengths: Sequence[int] = LENGTHS,
    pieces: int = 1,
) -> None:
    """Our draws of words. pieces: of each word, where a text has a start and an end and words are hidden whole."""
    ends = int(by == "counted")
    tokenizer: Any = SimpleNamespace(mask=MASK, ordinary=np.array(OTHERS))
    rngs = [np.random.default_rng(0)] * OURS
    for length in lengths:
        numbers = np.pad(np.arange(length) // pieces, ends, constant_values=-1)
        ids = np.full(len(numbers) * OURS, WORD)
        words = Words(ids, np.tile(numbers, OURS), np.full(len(ids), IGNORE), ids * 0)
        found = mask_all_words(words, [len(numbers)] * OURS, tokenizer, probability, rngs, by, some, most)
        hidden = (found.labels_T != IGNORE).reshape(OURS, -1)
        masked, same = ((found.ids_T == one).reshape(OURS, -1) for one in (MASK, WORD))
        _alike([hidden, ~hidden.any(axis=1, keepdims=True), masked, ~masked & ~same], wanted[str(length)], names)


def regions_alike(wanted: Numbers, masking: RegionMasking, names: Sequence[str] = NAMES) -> None:
    """Our draws of regions, of which no two overlap."""
    rngs = [np.random.default_rng(0)] * OURS
    for length in LENGTHS:
        count = length * OURS
        columns = {"boxes_R7": np.zeros((count, 7), np.float32)}
        regions = RegionColumns([length] * OURS, [np.zeros((length, 1), np.float16)] * OURS, columns)
        found = mask_regions(regions, masking, rngs).columns
        hidden = found["masked_R"].reshape(OURS, length)
        masked, same = ((found["shown_R"] == one).reshape(OURS, length) for one in (HIDDEN, ITSELF))
        _alike([hidden, ~hidden.any(axis=1, keepdims=True), masked, ~masked & ~same], wanted[str(length)], names)


def _alike(found: Sequence[Any], wanted: Numbers, names: Sequence[str]) -> None:
    for name, places in zip(NAMES, found, strict=True):
        if name in names:
            counts = places.sum(axis=1).astype(float)
            error = float(counts.std()) * (1 / OURS + 1 / CAPTIONS) ** 0.5
            assert counts.mean() == pytest.approx(wanted[name], abs=4 * error + 1e-9), name
