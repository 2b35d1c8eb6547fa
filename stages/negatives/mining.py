"""From caption numbers to their hard negatives: each distinct text is searched once in each part of the index."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from stages.negatives.inverted import Index
from stages.negatives.kernel import Queries, search
from stages.negatives.matching import same_image, same_text
from stages.negatives.rule import Config
from stages.negatives.spread import Members, merge, spread

Array = npt.NDArray[Any]

BATCH = 8192  # texts a call of the kernel: enough to use a block's postings again while they are in cache
ROOMS = 1 << 21  # found documents a call may have to hold


@dataclass(frozen=True)
class Neighbours:
    """The hard negatives of some captions, one after the other."""

    counts: Array  # int64 (captions asked for,): how many each has
    places: Array  # int32: the negatives' places in the index (inverted.Index)
    similarities: Array  # float32

    @classmethod
    def nothing(cls, captions: int) -> Neighbours:
        return cls(np.zeros(captions, np.int64), np.empty(0, np.int32), np.empty(0, np.float32))


def mine_captions(
    index: Index,
    part: int,
    captions: Array,
    config: Config,
    threads: int = 1,
    into: Sequence[int] | None = None,
    known: Array | None = None,
) -> Neighbours:
    """The hard negatives of the captions of these numbers in this part, in their order.

    into: the parts that are searched, all if None. known: float32, for each caption a similarity below which nothing is
    of interest. threads changes the speed, never the result.
    """
    found = Neighbours.nothing(len(captions))
    least = np.full(len(captions), -1, np.float32) if known is None else known
    for number in range(len(index.parts)) if into is None else into:
        work = _Search(index, part, number, captions.astype(np.int64), config, least)
        here = _in_order(len(captions), _run(work.batch, work.batches, threads))
        here = Neighbours(here.counts, here.places + np.int32(index.bases[number]), here.similarities)
        found = merged(found, here, index, config.top_k)
        least = np.maximum(least, _last(found, config.top_k))
    return found


def merged(one: Neighbours, other: Neighbours, index: Index, top_k: int) -> Neighbours:
    """The best of both for each caption."""
    if not len(one.places) or not len(other.places):
        return other if len(other.places) else one
    ours, theirs = (
        (found.counts, found.similarities, index.ranks[found.places].astype(np.uint64)[:, None])
        for found in (one, other)
    )
    counts, taken = merge(ours, theirs, top_k)
    places = np.concatenate([one.places, other.places])[taken]
    return Neighbours(counts, places, np.concatenate([one.similarities, other.similarities])[taken])


def _last(found: Neighbours, top_k: int) -> Array:
    """The similarity of each caption's last negative if its list is full, else -1; float32."""
    ends = np.cumsum(found.counts)
    last = found.similarities[np.maximum(ends - 1, 0)] if len(found.similarities) else np.float32(-1)
    return np.where(found.counts == top_k, last, -1).astype(np.float32)


class _Search:
    """The search of some captions of one part in one part, cut into batches of texts."""

    def __init__(self, index: Index, part: int, into: int, captions: Array, config: Config, least: Array) -> None:
        self.source, self.target = index.parts[part], index.parts[into]
        self.captions, self.config, self.scales = captions, config, index.scales
        self.images = same_image(self.source, captions, self.target)
        self.documents, self.row = np.unique(self.source.captions.documents[captions], return_inverse=True)
        self.own = same_text(self.source, self.documents, self.target)
        self.least = np.full(len(self.documents), np.inf, np.float32)
        np.minimum.at(self.least, self.row, least)
        self.barred, self.wanted = self._wanted()
        self.order = np.argsort(self.row, kind="stable")  # the captions of one batch of texts are together
        self.cuts = _cuts(self.wanted)
        self.bounds = np.searchsorted(self.row[self.order], self.cuts)
        self.batches = len(self.cuts) - 1

    def _wanted(self) -> tuple[Array, Array]:
        """(barred, wanted) of each text: the image that all its captions here are of, or -1; and how many texts to

        look for: top_k, and as many as may be found that turn out to be of no use to one of its captions.
        """
        most, least = np.full(len(self.documents), -1), np.full(len(self.documents), np.iinfo(np.int64).max)
        np.maximum.at(most, self.row, self.images)
        np.minimum.at(least, self.row, self.images)
        barred = np.where(most == least, most, -1)
        lost = np.zeros(len(self.documents), np.int64)
        inside = np.flatnonzero(self.images >= 0)
        texts, shared = self.target.captions.texts_of_image, self.target.captions.shared_of_image
        image, row = self.images[inside], self.row[inside]
        np.maximum.at(lost, row, np.where(barred[row] >= 0, shared[image], texts[image]))
        return barred, lost + self.config.top_k

    def batch(self, number: int) -> tuple[Array, Neighbours]:
        """(which of the captions, their hard negatives)."""
        rows = slice(self.cuts[number], self.cuts[number + 1])
        asked = self.order[self.bounds[number] : self.bounds[number + 1]]
        queries = self._queries(rows)
        limits = np.float32(self.config.floor), np.float32(self.config.ceiling)
        captions = self.target.captions
        heaps = search(self.target.postings, captions.sole, queries, self.scales, limits)
        members = Members(captions.images, captions.starts, captions.members, captions.sole)
        top_k = self.config.top_k
        counts, places, similarities = spread(
            heaps, queries.rooms, self.row[asked] - rows.start, self.images[asked], members, top_k
        )
        kept = np.arange(top_k) < counts[:, None]
        return asked, Neighbours(counts, places[kept], similarities[kept])

    def _queries(self, rows: slice) -> Queries:
        documents, postings = self.documents[rows], self.source.postings
        starts, ends = postings.starts[documents], postings.starts[documents + 1]
        own_starts = np.concatenate([[0], np.cumsum(ends - starts)])
        pairs = np.arange(own_starts[-1]) + np.repeat(starts - own_starts[:-1], ends - starts)
        rooms = np.concatenate([[0], np.cumsum(self.wanted[rows])])
        weights = self.source.query_weights[pairs]
        scalars = self.own[rows], self.barred[rows], self.least[rows]
        return Queries(own_starts, postings.terms[pairs], weights, *scalars, rooms)


def _cuts(wanted: Array) -> Array:
    """Where batches of texts begin and end: at most BATCH texts, and about ROOMS found documents."""
    ends, cuts = np.cumsum(wanted), [0]
    while cuts[-1] < len(wanted):
        before = ends[cuts[-1] - 1] if cuts[-1] else 0
        full = int(np.searchsorted(ends, before + ROOMS, "right"))
        cuts.append(min(max(full, cuts[-1] + 1), cuts[-1] + BATCH, len(wanted)))
    return np.array(cuts)


def _run(batch: Callable[[int], Any], batches: int, threads: int) -> Iterator[tuple[Array, Neighbours]]:
    if threads == 1:
        yield from map(batch, range(batches))
        return
    with ThreadPoolExecutor(threads) as pool:
        yield from pool.map(batch, range(batches))


def _in_order(num_captions: int, parts: Iterator[tuple[Array, Neighbours]]) -> Neighbours:
    """The parts' negatives in the order in which the captions were asked for."""
    asked, founds = [np.empty(0, np.int64)], [Neighbours.nothing(0)]
    for part, found in parts:
        asked.append(part)
        founds.append(found)
    order = np.concatenate(asked)
    counts = np.concatenate([found.counts for found in founds])
    places = np.concatenate([found.places for found in founds])
    similarities = np.concatenate([found.similarities for found in founds])
    by_caption = np.argsort(np.repeat(order, counts), kind="stable")
    sorted_counts = np.zeros(num_captions, np.int64)
    sorted_counts[order] = counts
    return Neighbours(sorted_counts, places[by_caption], similarities[by_caption])
