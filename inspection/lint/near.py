"""Rows whose pictures have near perceptual hashes: all of one table against some of another, in little memory."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from inspection.columns import Array, Numbers, ids
from pairloom.store.folder import Folder

BITS = 64
AT_ONCE = 1 << 20  # pairs that are compared at a time


@dataclass(frozen=True)
class Rows:
    """Images of a table: their ids, perceptual hashes, and where they lie."""

    images: Array
    hashes: Array  # uint64
    shards: Numbers  # in the folder's order
    rows: Numbers

    def __getitem__(self, chosen: Any) -> Rows:
        return Rows(self.images[chosen], self.hashes[chosen], self.shards[chosen], self.rows[chosen])


NOTHING = Rows(np.zeros(0, "S16"), np.zeros(0, np.uint64), np.zeros(0, np.int64), np.zeros(0, np.int64))


def joined(*parts: Rows) -> Rows:
    return Rows(*(np.concatenate([getattr(part, each.name) for part in parts]) for each in fields(Rows)))


def read(
    folder: Folder,
    columns: list[str],
    wanted: Callable[[str, Array, Array], npt.NDArray[np.bool_]] = lambda shard, images, hashes: np.ones(
        len(images), np.bool_
    ),
) -> Rows:
    """Rows by image. Hashes are zeros without the column, and a pair without a picture, which has none, is left out.

    wanted: of a shard, with its ids and hashes, the rows that are kept.
    """
    parts = [NOTHING]
    for number, (name, table) in enumerate(folder.tables(["image_id", *columns])):
        table = table.filter(table["phash"].is_valid()) if columns else table
        images = ids(table["image_id"])
        hashes = table["phash"].to_numpy() if columns else np.zeros(len(table), np.uint64)
        rows = np.flatnonzero(wanted(name, images, hashes))
        parts.append(Rows(images[rows], hashes[rows], np.full(len(rows), number), rows))
    whole = joined(*parts)
    return whole[np.argsort(whole.images, kind="stable")]


def places_in(known: Array, images: Array) -> Numbers:
    """Where these ids are among the known ones, which ascend. -1 for one that is not there."""
    if not len(known):
        return np.full(len(images), -1)
    place = np.minimum(np.searchsorted(known, images), len(known) - 1)
    return np.where(known[place] == images, place, -1)


class Bands:
    """Hashes sorted by each of their bands: hashes that differ in at most `distance` bits agree in one entirely."""

    def __init__(self, hashes: Array, distance: int) -> None:
        self.hashes, self.distance = hashes, distance
        edges = [BITS * band // (distance + 1) for band in range(distance + 2)]
        masks = [np.uint64((1 << high) - (1 << low)) for low, high in itertools.pairwise(edges)]
        orders = [np.argsort(hashes & mask, kind="stable") for mask in masks]
        self._sorted = [(mask, (hashes & mask)[order], order) for mask, order in zip(masks, orders, strict=True)]

    def pairs(self, some: Array) -> Iterator[tuple[Numbers, Numbers]]:
        """(places in some, places in the hashes) of all that are near, some of them twice. A few at a time."""
        for mask, keys, order in self._sorted:
            starts, stops = (np.searchsorted(keys, some & mask, side=side) for side in ("left", "right"))
            for first, last in _runs(stops - starts):
                counts = (stops - starts)[first:last]
                one = np.repeat(np.arange(first, last), counts)
                begins = np.repeat(starts[first:last] - (np.cumsum(counts) - counts), counts)
                other = order[np.arange(counts.sum()) + begins]
                close = np.bitwise_count(some[one] ^ self.hashes[other]) <= self.distance
                yield one[close], other[close]

    def near(self, some: Array) -> npt.NDArray[np.bool_]:
        """Which of these hashes are near to any."""
        found = np.zeros(len(some), np.bool_)
        for one, _ in self.pairs(some):
            found[one] = True
        return found


def _runs(counts: Array) -> Iterator[tuple[int, int]]:
    """Spans of at most AT_ONCE together, or of one."""
    ends, start = np.cumsum(counts), 0
    while start < len(counts):
        before = ends[start - 1] if start else 0
        stop = max(int(np.searchsorted(ends, before + AT_ONCE, side="right")), start + 1)
        yield start, stop
        start = stop
