"""From caption numbers to their hard negatives: each group of queries is searched once in each part of the index."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from stages import rows_done
from stages.negatives.groups import grouped
from stages.negatives.inverted import Index
from stages.negatives.kernel import Documents, Limits, Queries, search
from stages.negatives.matching import same_image, same_text
from stages.negatives.rule import Config
from stages.negatives.spread import Asked, Members, Ranked, merge, spread

Array = npt.NDArray[Any]

BATCH = 8192  # groups a call of the kernel: enough to use a block's postings again while they are in cache
ROOMS = 1 << 21  # found documents a call may have to hold


@dataclass(frozen=True)
class Neighbours:
    """The hard negatives of some captions, one after the other."""

    counts: Array  # int64 (captions asked for,): how many each has
    places: Array  # int64: the negatives' places in the index (inverted.Index)
    similarities: Array  # float32

    @classmethod
    def nothing(cls, captions: int) -> Neighbours:
        return cls(np.zeros(captions, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))


def mine_captions(
    index: Index,
    part: int,
    captions: Array,
    config: Config,
    threads: int = 1,
    into: Sequence[int] | None = None,
    known: Array | None = None,
    most: int | None = None,
) -> Neighbours:
    """The hard negatives of the captions of these numbers in this part, in their order.

    into: the parts that are searched, all if None. known: float32, for each caption a similarity below which nothing is
    of interest. threads changes the speed, never the result. most: of each caption, top_k if None.
    """
    most = config.top_k if most is None else most
    found = Neighbours.nothing(len(captions))
    least = np.full(len(captions), -1, np.float32) if known is None else known
    into = range(len(index.parts)) if into is None else into
    for number in into:
        work = _Search(index, part, number, captions.astype(np.int64), config, least, most)
        here = _in_order(len(captions), _counted(_run(work.batch, work.batches, threads), len(into)))
        here = Neighbours(here.counts, here.places.astype(np.int64) + index.bases[number], here.similarities)
        found = merged(found, here, index, most, config.distinct)
        least = np.maximum(least, last_of(found, most))
    return found


def merged(one: Neighbours, other: Neighbours, index: Index, most: int, distinct: bool) -> Neighbours:
    """The best of both for each caption."""
    if not len(one.places) or not len(other.places):
        return other if len(other.places) else one
    ours, theirs = (
        Ranked(
            found.counts,
            found.similarities,
            index.ranks[found.places].astype(np.uint64)[:, None],
            index.text_hashes(found.places),
        )
        for found in (one, other)
    )
    counts, taken = merge(ours, theirs, most, distinct)
    places = np.concatenate([one.places, other.places])[taken]
    return Neighbours(counts, places, np.concatenate([one.similarities, other.similarities])[taken])


def last_of(found: Neighbours, most: int) -> Array:
    """The similarity of each caption's last negative if its list is full, else -1, float32."""
    ends = np.cumsum(found.counts)
    last = found.similarities[np.maximum(ends - 1, 0)] if len(found.similarities) else np.float32(-1)
    return np.where(found.counts == most, last, -1).astype(np.float32)


class _Search:
    """The search of some captions of one part in one part, in groups with one list, cut into batches of groups."""

    def __init__(
        self, index: Index, part: int, into: int, captions: Array, config: Config, least: Array, most: int
    ) -> None:
        self.source, self.target = index.parts[part], index.parts[into]
        self.config, self.scales, self.most = config, index.scales, most
        self.images = same_image(self.source, captions, self.target)
        clean = config.train_only & self.source.captions.trained[captions]
        self.groups = grouped(self.source.captions, captions, clean, config.against)
        self.row = self.groups.row
        self.kinds = clean.astype(np.int64)
        self.own = same_text(self.source, self.groups.documents, self.target)
        self.least = np.full(len(self.groups), np.inf, np.float32)
        np.minimum.at(self.least, self.row, least)
        self.kind_of = np.zeros(len(self.groups), np.int64)
        self.kind_of[self.row] = self.kinds
        self.barred, self.wanted = self._wanted()
        self.order = np.argsort(self.row, kind="stable")  # the captions of one batch of groups are together
        self.cuts = _cuts(self.wanted)
        self.bounds = np.searchsorted(self.row[self.order], self.cuts)
        self.batches = len(self.cuts) - 1

    def _wanted(self) -> tuple[Array, Array]:
        """(barred, wanted) of each group: the image that all its captions here are of, or -1, and how many texts to

        look for: `most`, and as many as may be found that turn out to be of no use to one of its captions.
        """
        number = len(self.groups)
        most, least = np.full(number, -1), np.full(number, np.iinfo(np.int64).max)
        np.maximum.at(most, self.row, self.images)
        np.minimum.at(least, self.row, self.images)
        barred = np.where(most == least, most, -1)
        lost = np.zeros(number, np.int64)
        inside = np.flatnonzero(self.images >= 0)
        texts, shared = self.target.captions.texts_of_image, self.target.captions.shared_of_image
        image, row = self.images[inside], self.row[inside]
        np.maximum.at(lost, row, np.where(barred[row] >= 0, shared[image], texts[image]))
        return barred, lost + self.most

    def batch(self, number: int) -> tuple[Array, Neighbours]:
        """(which of the captions, their hard negatives)."""
        rows = slice(self.cuts[number], self.cuts[number + 1])
        asked = self.order[self.bounds[number] : self.bounds[number + 1]]
        queries = self._queries(rows)
        config, captions = self.config, self.target.captions
        limits = Limits(np.float32(config.floor), np.float32(config.ceiling))
        documents = Documents(captions.sole, captions.heads)
        heaps = search(self.target.postings, documents, queries, self.scales, limits)
        members = Members(
            captions.images, captions.documents, captions.starts, captions.members, captions.sole, captions.trained
        )
        wanted = Asked(self.row[asked] - rows.start, self.images[asked], self.kinds[asked])
        counts, places, similarities = spread(heaps, queries.rooms, wanted, members, self.most, config.distinct)
        kept = np.arange(self.most) < counts[:, None]
        return asked, Neighbours(counts, places[kept], similarities[kept])

    def _queries(self, rows: slice) -> Queries:
        first, last = self.groups.starts[rows.start], self.groups.starts[rows.stop]
        documents, postings = self.groups.documents[first:last], self.source.postings
        starts, ends = postings.starts[documents], postings.starts[documents + 1]
        own_starts = np.concatenate([[0], np.cumsum(ends - starts)])
        pairs = np.arange(own_starts[-1]) + np.repeat(starts - own_starts[:-1], ends - starts)
        rooms = np.concatenate([[0], np.cumsum(self.wanted[rows])])
        weights = self.source.query_weights[pairs]
        groups = self.groups.starts[rows.start : rows.stop + 1] - first
        scalars = self.barred[rows], self.kind_of[rows], self.least[rows]
        return Queries(own_starts, postings.terms[pairs], weights, self.own[first:last], groups, *scalars, rooms)


def _cuts(wanted: Array) -> Array:
    """Where batches of groups begin and end: at most BATCH groups, and about ROOMS found documents."""
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


def _counted(parts: Iterator[tuple[Array, Neighbours]], searches: int) -> Iterator[tuple[Array, Neighbours]]:
    """The same, while each caption counts as done when all searches for it are."""
    for asked, found in parts:
        yield asked, found
        rows_done.add(len(asked) / searches)


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
