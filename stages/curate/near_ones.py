"""Which images have a near one at all: exact and complete, by hashes that are sorted in files a piece at a time."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pairloom.compiled import compiled
from stages.curate.columns import Column, Positions, chunks, pieces
from stages.curate.duplicates import BITS, NONE, bands_of, ones

MOST_AGREE = 4
# nanoseconds of a hash: to put it in its piece, to sort that by one key, and to compare the hash with another of that
DEALT, SORTED, COMPARED = 35.0, 20.0, 0.2  # measured on an AMD EPYC


def near_ones(phashes: npt.NDArray[np.uint64], max_distance: int, folder: Path, agree: int | None = None) -> Positions:
    """The images that have another one within `max_distance` bits, earlier or later, ascending.

    What is sorted lies in files, 16 bytes an image. In memory are those that are found.
    """
    with ExitStack() as stack:
        room = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=folder)))
        distinct, near = Column(room / "distinct", np.uint64), Column(room / "near", np.bool_)
        stack.callback(distinct.close)
        stack.callback(near.close)
        for _, part in pieces(phashes, room):
            hashes, counts = np.unique(part, return_counts=True)
            distinct.add(hashes)
            near.add(counts > 1)
        found = np.memmap(room / "near", np.bool_, "r+", shape=(len(near),)) if len(near.array()) else near.array()
        agree = agree or min(range(1, MOST_AGREE + 1), key=lambda bands: _cost(max_distance, len(distinct), bands))
        for shared, masks in _grouped(max_distance + agree, agree):
            for places, hashes in pieces(distinct.array(), room, shared):
                marked = found[places]
                for mask in masks:
                    order = np.argsort(hashes & mask)
                    _mark_near(hashes[order], order, mask, max_distance, marked)
                found[places] = marked
        some = [distinct.array()[here][found[here]] for here in chunks(len(found))]
        return _that_have(phashes, np.sort(np.concatenate([np.empty(0, np.uint64), *some])))


def _that_have(phashes: npt.NDArray[np.uint64], hashes: npt.NDArray[np.uint64]) -> Positions:
    """The images that have one of these hashes, which ascend."""
    found = [NONE]
    if len(hashes):
        for here in chunks(len(phashes)):
            part = phashes[here]
            place = np.minimum(np.searchsorted(hashes, part), len(hashes) - 1)
            found.append(here.start + np.flatnonzero(hashes[place] == part))
    return np.concatenate(found)


def _grouped(bands: int, agree: int) -> Iterator[tuple[np.uint64, list[np.uint64]]]:
    """The masks of all keys, by groups that have all bands but the last in common, with what a group shares.

    Hashes that agree under a mask agree in what it shares, so they are dealt out once for the whole group.
    """
    keys = itertools.combinations(bands_of(bands), agree)
    for shared, group in itertools.groupby(keys, lambda key: sum(key[:-1]) or sum(key)):
        yield np.uint64(shared), [np.uint64(sum(key)) for key in group]


def _cost(max_distance: int, hashes: int, agree: int) -> float:
    """What a hash costs where they are sorted, about: longer keys are shared by far fewer, but there are more keys."""
    groups = [len(masks) for _, masks in _grouped(max_distance + agree, agree)]
    sharing = hashes / 2 ** (BITS * agree / (max_distance + agree))
    return len(groups) * DEALT + sum(groups) * (SORTED + sharing * COMPARED)


@compiled
def _mark_near(
    hashes: npt.NDArray[np.uint64],
    order: npt.NDArray[np.int64],
    mask: np.uint64,
    max_distance: int,
    near: npt.NDArray[np.bool_],
) -> None:
    """Mark all within the distance of another that agrees with them under the mask, by which the hashes are sorted.

    order: the places of the hashes in `near`.
    """
    start = 0
    for stop in range(1, len(hashes) + 1):
        if stop < len(hashes) and (hashes[stop] ^ hashes[start]) & mask == np.uint64(0):
            continue
        for one in range(start, stop):
            found = 0
            for other in range(one + 1, stop):  # without a branch, so that several are compared at once
                found += int(ones(hashes[one] ^ hashes[other]) <= max_distance)
            if found:
                near[order[one]] = True
                for other in range(one + 1, stop):
                    if ones(hashes[one] ^ hashes[other]) <= max_distance:
                        near[order[other]] = True
        start = stop
