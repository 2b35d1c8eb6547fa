"""From the best texts of a text to the hard negatives of its captions, compiled."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pairloom.compiled import compiled
from stages.negatives.kernel import Heaps

Array = npt.NDArray[Any]


class Members(NamedTuple):
    """Which captions have which text, as in captions.py."""

    images: Array  # int32 (C,)
    documents: Array  # int32 (C,)
    starts: Array  # int64 (D + 1,)
    members: Array  # int32 (C,)
    sole: Array  # int32 (D,)
    trained: Array  # bool (C,)


class Asked(NamedTuple):
    """The captions whose hard negatives are wanted."""

    rows: Array  # int64 (A,): whose rooms of the heaps are each caption's
    images: Array  # int64 (A,): its image, or -1 if that has no captions here
    kinds: Array  # int64 (A,): 1: only captions to train on, 0: all


@compiled
def spread(
    heaps: Heaps, rooms: Array, wanted: Asked, members: Members, top_k: int, distinct: bool
) -> tuple[Array, Array, Array]:
    """(counts (A,), captions (A, top_k), similarities (A, top_k)): the hard negatives of each caption asked for.

    Most similar first. Among equals the lower caption, whichever text it has. distinct: a text gives one caption.
    """
    asked = len(wanted.rows)
    counts = np.zeros(asked, np.int64)
    chosen, values = np.zeros((asked, top_k), np.int32), np.zeros((asked, top_k), np.float32)
    tied = np.empty(64, np.int32)
    for ask in range(asked):
        first = rooms[wanted.rows[ask]]
        here, last = first, first + heaps.sizes[wanted.rows[ask]]
        only = wanted.images[ask], wanted.kinds[ask] == 1
        while here < last and counts[ask] < top_k:
            similarity, num_tied = heaps.similarities[here], 0
            missing = top_k - counts[ask]
            while here < last and heaps.similarities[here] == similarity:
                while len(tied) < num_tied + missing:
                    tied = np.concatenate((tied, tied))
                document, most = members.documents[heaps.heads[here]], 1 if distinct else missing
                num_tied = _gather(members, document, only, most, tied, num_tied)
                here += 1
            tied[:num_tied].sort()
            taken = min(num_tied, missing)
            chosen[ask, counts[ask] : counts[ask] + taken] = tied[:taken]
            values[ask, counts[ask] : counts[ask] + taken] = similarity
            counts[ask] += taken
    return counts, chosen, values


@compiled
def _gather(members: Members, document: int, only: tuple[int, bool], most: int, tied: Array, num_tied: int) -> int:
    """Append the first `most` captions that have this text and are admitted. Returns the new length.

    only: the image whose captions are not, and whether those of held-out images aren't either.
    """
    image, to_train_on = only
    if image >= 0 and members.sole[document] == image:
        return num_tied
    end = num_tied + most
    for at in range(members.starts[document], members.starts[document + 1]):
        if num_tied == end:
            break
        caption = members.members[at]
        if members.images[caption] != image and (members.trained[caption] or not to_train_on):
            tied[num_tied] = caption
            num_tied += 1
    return num_tied


class Ranked(NamedTuple):
    """Lists of some captions, one after the other, each sorted by higher similarity, then lower key."""

    counts: Array  # int64 (A,)
    similarities: Array  # float32 (N,)
    keys: Array  # uint64 (N, n): what decides ties
    texts: Array  # uint64 (N,): a hash of each text; of two texts of one hash (2^-64 a pair) a list has one


@compiled
def merge(one: Ranked, other: Ranked, top_k: int, distinct: bool) -> tuple[Array, Array]:
    """(counts, places): the best top_k of two lists for each caption. A place counts on from `one` to `other`.

    distinct: of equal texts a list has the first only. By their vectors (`scorer: embedding`) they may differ.
    """
    room = len(one.similarities) + len(other.similarities)
    counts, places = np.zeros(len(one.counts), np.int64), np.empty(room, np.int64)
    texts = np.empty(room, np.uint64)
    end, here, there = 0, 0, 0
    for ask in range(len(one.counts)):
        first, stop, other_stop = end, here + one.counts[ask], there + other.counts[ask]
        while end - first < top_k and (here < stop or there < other_stop):
            if there == other_stop or (here < stop and _before(one, here, other, there)):
                places[end], texts[end] = here, one.texts[here]
                here += 1
            else:
                places[end], texts[end] = len(one.similarities) + there, other.texts[there]
                there += 1
            if not (distinct and _is_repeated(texts, first, end)):
                end += 1
        counts[ask] = end - first
        here, there = stop, other_stop
    return counts, places[:end].copy()


@compiled
def _is_repeated(texts: Array, first: int, end: int) -> bool:
    """Whether the text at `end` is one of the earlier ones from `first` on."""
    repeated = False
    for at in range(first, end):
        repeated |= texts[at] == texts[end]
    return repeated


@compiled
def _before(one: Ranked, here: int, other: Ranked, there: int) -> bool:
    if one.similarities[here] != other.similarities[there]:
        return bool(one.similarities[here] > other.similarities[there])
    for column in range(one.keys.shape[1]):
        if one.keys[here, column] != other.keys[there, column]:
            return bool(one.keys[here, column] < other.keys[there, column])
    return False
