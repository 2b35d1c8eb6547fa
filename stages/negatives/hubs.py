"""A limit on how many lists one caption stands in: short and general captions are near to many others.

Two passes, so that the result depends neither on shards nor on workers. The first mines lists of DEPTH × top_k; of each
caption that stands in more than `max_lists` of them it finds the last list that may keep it. The second mines the same
lists again, takes out what may not stay, and cuts them to top_k. So no caption stands in more than `max_lists` lists,
and a list that loses a caption has others to take its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stages.negatives.captions import one_chunk
from stages.negatives.mining import Neighbours
from stages.negatives.rule import Config

Array = npt.NDArray[Any]
DEPTH = 2  # times top_k: so long are the lists of the first pass
AT_ONCE = 1 << 24  # entries of lists that are sorted together


@dataclass(frozen=True)
class Limits:
    """Of each place of an index the last list that keeps its caption: lists come by similarity, then by rank."""

    similarities: Array  # float32 (C,): of the caption to the last list
    ranks: Array  # int64 (C,): of the caption whose list that is

    def kept(self, asking: Array, found: Neighbours, most: int) -> Neighbours:
        """The first `most` of each list that may stay. asking: the ranks of the captions whose lists these are."""
        rank = np.repeat(asking, found.counts)
        least, last = self.similarities[found.places], self.ranks[found.places]
        stays = (found.similarities > least) | ((found.similarities == least) & (rank <= last))
        return first(found, stays, most)

    def save(self, folder: Path) -> None:
        folder.mkdir()
        np.save(folder / "similarities.npy", self.similarities)
        np.save(folder / "ranks.npy", self.ranks)

    @classmethod
    def open(cls, folder: Path) -> Limits:
        return cls(*(np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("similarities", "ranks")))


def first(found: Neighbours, stays: Array, most: int) -> Neighbours:
    """The first `most` of each list's entries that stay."""
    before = np.concatenate([[0], np.cumsum(stays)])
    starts = np.cumsum(found.counts) - found.counts
    of = np.repeat(np.arange(len(found.counts)), found.counts)
    chosen = stays & (before[:-1] - before[starts][of] < most)
    counts = np.bincount(of[chosen], minlength=len(found.counts))
    return Neighbours(counts, found.places[chosen], found.similarities[chosen])


@dataclass(frozen=True)
class FirstPass:
    """What a worker must know to mine a shard for `max_lists`."""

    config: Config
    folder: Path  # of the index


def as_table(index: int, asking: Array, found: Neighbours) -> pa.Table:
    """Lists of the first pass for a file: a row a list, of an index of this number and the captions of these ranks."""
    ends = np.concatenate([[0], np.cumsum(found.counts)])
    places, similarities = (
        pa.LargeListArray.from_arrays(pa.array(ends), pa.array(values)) for values in (found.places, found.similarities)
    )
    numbers = np.full(len(asking), index)
    return pa.table({"index": numbers, "asking": asking, "places": places, "similarities": similarities})


def of_index(table: pa.Table, number: int) -> pa.Table:
    """The lists of the index of this number, by which they are sorted."""
    low, high = np.searchsorted(table["index"].to_numpy(), [number, number + 1])
    return table.slice(int(low), int(high - low))


def limits(tables: Sequence[pa.Table], captions: int, most: int) -> Limits:
    """What the second pass needs to know of an index with so many captions, from all lists of the first.

    tables: of `as_table`, mapped from files where they are many: 12 bytes an entry. How they are cut changes nothing.
    """
    times = np.zeros(captions, np.int64)
    for table in tables:
        places, found = np.unique(_flat(table["places"]), return_counts=True)
        times[places] += found
    last = Limits(np.full(captions, -1, np.float32), np.full(captions, -1, np.int64))
    hubs = np.flatnonzero(times > most)
    for some in np.split(hubs, _cuts(times[hubs])):
        _limit(last, some, [_entries(table, some) for table in tables], most)
    return last


def _flat(lists: pa.ChunkedArray) -> Array:
    values: Array = one_chunk(lists).flatten().to_numpy()
    return values


def _cuts(times: Array) -> Array:
    """Where to cut hubs that stand in so many lists into groups of about AT_ONCE entries."""
    group = np.cumsum(times) // AT_ONCE
    return np.flatnonzero(np.diff(group)) + 1


def _entries(table: pa.Table, hubs: Array) -> tuple[Array, Array, Array]:
    """(place, similarity, rank of the caption that asks) of each entry of these lists that is one of the hubs."""
    places, similarities = _flat(table["places"]), _flat(table["similarities"])
    if not len(hubs):
        return places[:0], similarities[:0], places[:0]
    at = np.minimum(np.searchsorted(hubs, places), len(hubs) - 1)
    here = hubs[at] == places
    asking = np.repeat(table["asking"].to_numpy(), pc.list_value_length(table["places"]).to_numpy())
    return places[here], similarities[here], asking[here]


def _limit(last: Limits, hubs: Array, entries: list[tuple[Array, Array, Array]], most: int) -> None:
    """Note the last list of each hub that may keep it."""
    if not len(hubs):
        return
    place, similarity, rank = (np.concatenate(each) for each in zip(*entries, strict=True))
    order = np.lexsort((rank, -similarity, place))
    begins = np.searchsorted(place[order], hubs)
    at = order[begins + most - 1]
    last.similarities[hubs], last.ranks[hubs] = similarity[at], rank[at]
