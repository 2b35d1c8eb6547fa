"""Facts that need many rows: how many images share a caption, and what a top share of scores is.

They are counted over the whole corpus, or up to the end of the row's own shard, so that lines added to the list later
change no shard that is done.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

BINS = 1 << 16
Array = npt.NDArray[Any]


def text_hash(text: str) -> int:
    """64 bits that stand for a caption."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def limits(images: Sequence[int], max_repeats: int | None, max_share: float | None, so_far: bool) -> Array:
    """Of each shard of so many images: how many images may have the same caption, float64."""
    most = np.full(len(images), np.inf)
    if max_repeats is not None:
        most = np.minimum(most, max_repeats)
    if max_share is not None:
        total = np.cumsum(images) if so_far else np.sum(images, dtype=np.int64)
        most = np.minimum(most, np.maximum(1.0, max_share * total))
    return most


def over(keys: Array, shards: Array, weights: Array | None, most: Array, so_far: bool) -> npt.NDArray[np.bool_]:
    """Which keys come more often than their shard allows, among all or (so_far) those up to the shard's end.

    keys: in the order of the list, with their shard's number and how much each counts (1).
    """
    if not len(keys):
        return np.zeros(0, np.bool_)
    order = np.argsort(keys, kind="stable")  # equal keys stay in the order of the list
    sorted_keys, sorted_shards = keys[order], shards[order]
    added = np.ones(len(keys), np.int64) if weights is None else weights[order].astype(np.int64)
    ends = np.concatenate([[0], np.cumsum(added)])
    other = np.r_[True, sorted_keys[1:] != sorted_keys[:-1]]
    starts = np.flatnonzero(other)
    group_start = np.repeat(starts, np.diff(np.r_[starts, len(order)]))
    # How many of the group come no later than the end of this one's shard: the position after its shard's last. In the
    # whole corpus it is the one after the group's last.
    new_run = other[1:] | (sorted_shards[1:] != sorted_shards[:-1]) if so_far else other[1:]
    run_ends = np.flatnonzero(np.r_[new_run, True])
    run_end = run_ends[np.searchsorted(run_ends, np.arange(len(order)))]
    found = np.zeros(len(keys), np.bool_)
    found[order] = ends[run_end + 1] - ends[group_start] > most[sorted_shards]
    return found


def floors(shards: Iterable[npt.NDArray[np.float32]], top_share: float, so_far: bool) -> list[float]:
    """For each shard the score that at least `top_share` of all rows, or of those up to its end, reach.

    NaN is no score and never among them.

    Exact to the upper 16 bits of a float32: scores between 0.25 and 0.5 are told apart in steps of 0.002, those between
    64 and 128 in steps of 0.5, and all scores of the step that the share ends in pass. So 65,536 counters are enough.
    """
    counted = np.zeros(BINS, np.int64)
    found = []
    for scores in shards:
        np.add.at(counted, _bins(scores[~np.isnan(scores)]), 1)
        found.append(_floor(counted, top_share) if so_far else 0.0)
    return found if so_far else [_floor(counted, top_share)] * len(found)


def largest(shards: Callable[[], Iterable[npt.NDArray[np.float32]]], number: int) -> float:
    """The number-th largest of all these values, in two looks and 131,072 counters."""
    upper = np.zeros(BINS, np.int64)
    for values in shards():
        np.add.at(upper, _bins(values), 1)
    above = np.cumsum(upper[::-1])
    place = BINS - 1 - int(np.searchsorted(above, number))
    left = number - int(upper[place + 1 :].sum())
    lower = np.zeros(BINS, np.int64)
    for values in shards():
        keys = _keys(values)
        np.add.at(lower, (keys[keys >> np.uint32(16) == place] & np.uint32(BINS - 1)).astype(np.int64), 1)
    rest = BINS - 1 - int(np.searchsorted(np.cumsum(lower[::-1]), left))
    return float(_value(place << 16 | rest))


def _floor(counted: Array, top_share: float) -> float:
    above = counted[::-1].cumsum()
    place = BINS - 1 - int(np.searchsorted(above, top_share * above[-1]))
    return float(_lower_edge(max(place, 0)))


def _bins(scores: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    return (_keys(scores) >> np.uint32(16)).astype(np.int64)


def _keys(scores: npt.NDArray[np.float32]) -> npt.NDArray[np.uint32]:
    """Order-preserving: the sign bit turned for positive numbers, all bits for negative ones."""
    bits = (scores + np.float32(0)).view(np.uint32)
    return np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))


def _lower_edge(place: int) -> np.float32:
    return _value(place << 16)


def _value(number: int) -> np.float32:
    key = np.uint32(number)
    bits = ~key if not key >> 31 else key & np.uint32(0x7FFFFFFF)
    return np.array([bits], np.uint32).view(np.float32)[0]  # type: ignore[no-any-return]
