"""From the best texts of a text to the hard negatives of its captions, compiled."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from stages.compiled import compiled
from stages.negatives.kernel import Heaps

Array = npt.NDArray[Any]


class Members(NamedTuple):
    """Which captions have which text, as in captions.py."""

    images: Array  # int32 (C,)
    starts: Array  # int64 (D + 1,)
    members: Array  # int32 (C,)
    sole: Array  # int32 (D,)


@compiled
def spread(
    heaps: Heaps, rooms: Array, rows: Array, images: Array, members: Members, top_k: int
) -> tuple[Array, Array, Array]:
    """(counts (A,), captions (A, top_k), similarities (A, top_k)): the hard negatives of each caption asked for.

    rows: int64 (A,), whose rooms of the heaps are each caption's; images: int64 (A,), its image or -1 if that has no
    captions here. Most similar first; among equals the lower caption, whichever text it has.
    """
    asked = len(rows)
    counts = np.zeros(asked, np.int64)
    chosen, values = np.zeros((asked, top_k), np.int32), np.zeros((asked, top_k), np.float32)
    tied = np.empty(64, np.int32)
    for ask in range(asked):
        first = rooms[rows[ask]]
        here, last = first, first + heaps.sizes[rows[ask]]
        while here < last and counts[ask] < top_k:
            similarity, num_tied = heaps.similarities[here], 0
            missing = top_k - counts[ask]
            while here < last and heaps.similarities[here] == similarity:
                while len(tied) < num_tied + missing:
                    tied = np.concatenate((tied, tied))
                num_tied = _gather(members, heaps.documents[here], images[ask], missing, tied, num_tied)
                here += 1
            tied[:num_tied].sort()
            taken = min(num_tied, missing)
            chosen[ask, counts[ask] : counts[ask] + taken] = tied[:taken]
            values[ask, counts[ask] : counts[ask] + taken] = similarity
            counts[ask] += taken
    return counts, chosen, values


@compiled
def _gather(members: Members, document: int, image: int, most: int, tied: Array, num_tied: int) -> int:
    """Append the first `most` captions that have this text and are not of this image; returns the new length."""
    if image >= 0 and members.sole[document] == image:
        return num_tied
    end = num_tied + most
    for at in range(members.starts[document], members.starts[document + 1]):
        if num_tied == end:
            break
        caption = members.members[at]
        if members.images[caption] != image:
            tied[num_tied] = caption
            num_tied += 1
    return num_tied


@compiled
def merge(one: tuple[Array, Array, Array], other: tuple[Array, Array, Array], top_k: int) -> tuple[Array, Array]:
    """(counts, places): the best top_k of two lists for each caption; a place counts on from `one` to `other`.

    Each is (counts int64 (A,), similarities float32, keys uint64 (negatives, n)), lists one after the other, sorted by
    higher similarity, then lower key.
    """
    counts, places = np.zeros(len(one[0]), np.int64), np.empty(len(one[1]) + len(other[1]), np.int64)
    end, here, there = 0, 0, 0
    for ask in range(len(one[0])):
        stop, other_stop = here + one[0][ask], there + other[0][ask]
        while counts[ask] < top_k and (here < stop or there < other_stop):
            if there == other_stop or (here < stop and _before(one, here, other, there)):
                places[end] = here
                here += 1
            else:
                places[end] = len(one[1]) + there
                there += 1
            end += 1
            counts[ask] += 1
        here, there = stop, other_stop
    return counts, places[:end].copy()


@compiled
def _before(one: tuple[Array, Array, Array], here: int, other: tuple[Array, Array, Array], there: int) -> bool:
    if one[1][here] != other[1][there]:
        return bool(one[1][here] > other[1][there])
    for column in range(one[2].shape[1]):
        if one[2][here, column] != other[2][there, column]:
            return bool(one[2][here, column] < other[2][there, column])
    return False
