"""Batches of so many tokens: the rows of a run are sorted by length and cut, as UNITER's token buckets are.

What counts is what a batch holds when it is padded: rows × (words of the longest text + units of the row with the
most). A row is as long as it is when it is ready for the objective of its batch: with a negative's text, for example.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pairloom.errors import ConfigError
from pairloom.loader.order import PACK, shuffled
from pairloom.table import Array

VERSION = 2  # of the rule below, which decides the order

Lengths = Callable[[str, Array], Array]  # (objective, P places) -> (P, 2) int64: words and units of their rows


@dataclass(frozen=True)
class Cut:
    """One batch of a run of rows."""

    objective: str
    rows: Array  # their places in the run, ascending
    words: int  # of the longest text
    units: int  # of the row with the most


def packed(
    count: int, lengths: Lengths, objective: Callable[[int], str], budget: int, fewest: int, *key: int
) -> list[Cut]:
    """Batches of `count` rows, each row once, in random order, which the key decides.

    The objective of each batch is drawn first. It takes the longest rows that are left, as long as `budget` tokens hold
    them with their padding, and one at least. The last one takes rows from the one before it where it has fewer than
    `fewest`: so many must fit into the budget, however long they are.
    """
    left: Array = np.arange(count)
    cuts: list[tuple[str, Array]] = []
    while len(left):
        name = objective(len(cuts))
        sizes = lengths(name, left)
        order = np.argsort(-sizes.sum(axis=1), kind="stable")
        padded = np.maximum.accumulate(sizes[order], axis=0).sum(axis=1) * np.arange(1, len(left) + 1)
        fitting = max(int((padded <= budget).sum()), 1)
        cuts.append((name, left[order[:fitting]]))
        left = np.sort(left[order[fitting:]])
    if len(cuts) > 1:
        (name, rows), (last, rest) = cuts[-2:]
        kept = len(rows) - min(max(fewest - len(rest), 0), len(rows) - 1)
        cuts[-2:] = [(name, rows[:kept]), (last, np.concatenate([rest, rows[kept:]]))]
    shuffled_cuts = [cuts[number] for number in shuffled(len(cuts), PACK, *key)]
    return [_cut(name, rows, lengths) for name, rows in shuffled_cuts]


def _cut(objective: str, rows: Array, lengths: Lengths) -> Cut:
    words, units = lengths(objective, rows).max(axis=0).tolist()
    return Cut(objective, np.sort(rows), words, units)


def measured(
    count: int,
    measure: Callable[[str, Sequence[int]], list[tuple[int, int] | None]],
    resized: Callable[[str], bool],
) -> Lengths:
    """Lengths of `count` rows, each measured when it is asked for. Once for all objectives that do not resize it.

    One that is damaged (None) counts as the good one before it, so that it comes among good ones, one of which takes
    its place.
    """
    known: dict[str, Array] = {}

    def before(objective: str, place: int) -> tuple[int, int]:
        found = (measure(objective, [(place - back) % count])[0] for back in range(1, count))
        return next((size for size in found if size is not None), (1, 0))

    def lengths(objective: str, places: Array) -> Array:
        name = objective if resized(objective) else ""
        sizes = known.setdefault(name, np.full((count, 2), -1, np.int64))
        missing = places[sizes[places, 0] < 0].tolist()
        for place, size in zip(missing, measure(objective, missing) if missing else [], strict=True):
            sizes[place] = before(objective, place) if size is None else size
        found: Array = sizes[places]
        return found

    return lengths


def refuse_longer(lengths: Sequence[tuple[int, int]], objective: str, words: int, units: int) -> None:
    """Raise ConfigError where a row is longer than it was measured: the batch would be beyond the budget."""
    for found in lengths:
        if found[0] > words or found[1] > units:
            what = f"a row has {found[0]} words and {found[1]} units, where {words} and {units} were measured"
            fix = "give the objective that changes rows' lengths a function `resizes` (trainer/contract.py)"
            raise ConfigError(what, f"the loader's max_tokens, steps {objective}", fix)
