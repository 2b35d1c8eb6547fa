"""How stage `shards` deals rows out: input shards are drawn together in windows, and a window's rows are mixed.

A window is a task's work: its input shards are read once, and its output shards hold rows of it alone. The plan keeps
of each output shard how many rows it has; which they are is worked out again where the window is read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pairloom.store.names import shard_name
from pairloom.table import Array
from stages.contract import Window
from stages.split import SPLITS

GONE = "gone"  # in a window's facts: rows that were taken out after it was planned
FILLED = 4  # output shards that a window fills at least: held-out rows are a shard of each, which must not be tiny


@dataclass(frozen=True)
class Drawing:
    """What decides the order of rows, and where they are cut."""

    seed: int
    mixed: int  # input shards whose rows are mixed with each other
    shard_bytes: int  # an output shard ends with the row that reaches it


@dataclass(frozen=True)
class Source:
    """One input shard."""

    name: str
    splits: Array  # uint8 of each row: a place in SPLITS
    row_bytes: float  # of one row over all inputs, on average


def windows(sources: Sequence[Source], drawing: Drawing) -> Iterator[Window]:
    """All windows, with the names of their output shards: `train-00000` …, `val-00000` … and `test-00000` …"""
    rng = np.random.Generator(np.random.PCG64(drawing.seed))
    order = [sources[place] for place in rng.permutation(len(sources))]
    counts = [0] * len(SPLITS)
    for window in _cut_into_windows(order, drawing):
        facts = {"state": rng.bit_generator.state, "row_bytes": [source.row_bytes for source in window]}
        parts = []
        for split, rows in _dealt(window, drawing, rng):
            parts.append((shard_name(counts[split], SPLITS[split]), len(rows)))
            counts[split] += 1
        yield Window(tuple(source.name for source in window), tuple(parts), json.dumps(facts))


def _cut_into_windows(order: Sequence[Source], drawing: Drawing) -> Iterator[list[Source]]:
    """Whole mixtures, so many that they fill FILLED output shards."""
    window: list[Source] = []
    for start in range(0, len(order), drawing.mixed):
        window += order[start : start + drawing.mixed]
        if sum(source.row_bytes * len(source.splits) for source in window) >= FILLED * drawing.shard_bytes:
            yield window
            window = []
    if window:
        yield window


def dealt(window: Window, splits: Sequence[Array], drawing: Drawing) -> list[Array]:
    """Of each part of a window its rows in order: places in the window's input shards, one after the other.

    splits: uint8 of each input shard's rows.
    """
    facts = json.loads(window.facts)
    rng = np.random.Generator(np.random.PCG64())
    rng.bit_generator.state = facts["state"]
    gone = facts.get(GONE, [[]] * len(window.shards))
    as_drawn = [_as_drawn(own, rows) for own, rows in zip(splits, gone, strict=True)]
    sources = [Source(*each) for each in zip(window.shards, as_drawn, facts["row_bytes"], strict=True)]
    there = np.concatenate([np.zeros(0, bool), *(_there(len(s), rows) for s, rows in zip(as_drawn, gone, strict=True))])
    places = np.cumsum(there) - 1
    return [places[rows[there[rows]]] for _, rows in _dealt(sources, drawing, rng)]


def without(window: Window, rows: Sequence[Array], splits: Sequence[Array], drawing: Drawing) -> Window:
    """The same window after rows were taken out of its input shards: the others stay where they were dealt.

    rows: of each input shard the places of those that go; splits: as in `dealt`, of all rows that are there now.
    """
    facts = json.loads(window.facts)
    gone = facts.get(GONE, [[]] * len(window.shards))
    facts[GONE] = [_gone(*each) for each in zip(gone, rows, splits, strict=True)]
    left = [np.delete(own, places) for own, places in zip(splits, rows, strict=True)]
    smaller = Window(window.shards, window.parts, json.dumps(facts))
    counts = map(len, dealt(smaller, left, drawing))
    parts = tuple((name, rows) for (name, _), rows in zip(window.parts, counts, strict=True))
    return Window(window.shards, parts, smaller.facts)


def _gone(before: Sequence[Sequence[int]], rows: Array, splits: Array) -> list[list[int]]:
    """(place when it was drawn, split) of each row that is gone from an input shard."""
    places = np.flatnonzero(_there(len(splits) + len(before), before))
    return sorted([*map(list, before), *([int(places[row]), int(splits[row])] for row in rows)])


def _there(drawn: int, gone: Sequence[Sequence[int]]) -> Array:
    """bool of each row of an input shard as it was drawn."""
    there = np.ones(drawn, bool)
    there[[place for place, _ in gone]] = False
    return there


def _as_drawn(splits: Array, gone: Sequence[Sequence[int]]) -> Array:
    """The splits of all rows of an input shard as it was drawn."""
    drawn: Array = np.zeros(len(splits) + len(gone), np.uint8)
    drawn[_there(len(drawn), gone)] = splits
    for place, split in gone:
        drawn[place] = split
    return drawn


def _dealt(window: Sequence[Source], drawing: Drawing, rng: np.random.Generator) -> Iterator[tuple[int, Array]]:
    """(split, rows) of each output shard."""
    order = _mixed([len(source.splits) for source in window], drawing.mixed, rng)
    splits = np.concatenate([source.splits for source in window])[order]
    sizes = np.concatenate([np.full(len(source.splits), source.row_bytes) for source in window])[order]
    for split in range(len(SPLITS)):
        chosen = splits == split
        rows, ends = order[chosen], np.cumsum(sizes[chosen])
        number = np.concatenate([[0], ends[:-1]]) // drawing.shard_bytes if len(rows) else np.zeros(0)
        starts = np.unique(number, return_index=True)[1]
        yield from ((split, part) for part in np.split(rows, starts[1:]) if len(part))


def _mixed(counts: Sequence[int], mixed: int, rng: np.random.Generator) -> Array:
    """The rows of shards of so many rows in random order, mixed within `mixed` shards."""
    ends = np.concatenate([[0], np.cumsum(counts)])
    spans = [(ends[start], ends[min(start + mixed, len(counts))]) for start in range(0, len(counts), mixed)]
    parts = [rng.permutation(int(stop - start)) + start for start, stop in spans]
    order: Array = np.concatenate(parts).astype(np.int64) if parts else np.zeros(0, np.int64)
    return order
