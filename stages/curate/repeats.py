"""Facts that need many rows: how many images share a caption, and what a top share of scores is.

They are counted over the whole corpus, or up to the end of the row's own shard, so that lines added to the list later
change no shard that is done.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

BINS = 1 << 16


def text_hash(text: str) -> int:
    """64 bits that stand for a caption."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def repeated(
    shards: Sequence[npt.NDArray[np.uint64]],
    images: Sequence[int],
    max_repeats: int | None,
    max_share: float | None,
    so_far: bool,
) -> list[set[int]]:
    """For each shard the caption hashes that too many images have, of all images or (so_far) of those up to its end.

    shards: for each the hashes of its images' captions, each once an image; images: how many images each shard has.
    """
    sizes = [len(hashes) for hashes in shards]
    hashes = np.concatenate([*shards, np.empty(0, np.uint64)])
    shard_of = np.repeat(np.arange(len(shards)), sizes)
    order = np.argsort(hashes, kind="stable")  # equal hashes stay in the order of the list
    sorted_hashes, sorted_shards = hashes[order], shard_of[order]
    starts = np.flatnonzero(np.r_[True, sorted_hashes[1:] != sorted_hashes[:-1]]) if len(order) else order
    group_start = np.repeat(starts, np.diff(np.r_[starts, len(order)]))
    # How many of the group come no later than the end of this one's shard: the position after its shard's last. In the
    # whole corpus it is the one after the group's last.
    new_run = sorted_hashes[1:] != sorted_hashes[:-1]
    if so_far:
        new_run = new_run | (sorted_shards[1:] != sorted_shards[:-1])
    run_ends = np.flatnonzero(np.r_[new_run, True][: len(order)])
    run_end = run_ends[np.searchsorted(run_ends, np.arange(len(order)))]
    counts = run_end + 1 - group_start
    most = np.full(len(shards), np.inf)
    if max_repeats is not None:
        most = np.minimum(most, max_repeats)
    if max_share is not None:
        total = np.cumsum(images) if so_far else np.sum(images, dtype=np.int64)
        most = np.minimum(most, np.maximum(1.0, max_share * total))
    too_many = counts > most[sorted_shards]
    found: list[set[int]] = [set() for _ in shards]
    for shard, value in zip(sorted_shards[too_many].tolist(), sorted_hashes[too_many].tolist(), strict=True):
        found[shard].add(value)
    return found


def floors(shards: Sequence[npt.NDArray[np.float32]], top_share: float, so_far: bool) -> list[float]:
    """For each shard the score that at least `top_share` of all rows, or of those up to its end, reach.

    NaN is no score and never among them.

    Exact to the upper 16 bits of a float32: scores between 0.25 and 0.5 are told apart in steps of 0.002, those between
    64 and 128 in steps of 0.5, and all scores of the step that the share ends in pass. So 65,536 counters are enough.
    """
    if not so_far and shards:
        return floors([np.concatenate(shards)], top_share, so_far=True) * len(shards)
    counted = np.zeros(BINS, np.int64)
    found = []
    for scores in shards:
        np.add.at(counted, _bins(scores[~np.isnan(scores)]), 1)
        above = counted[::-1].cumsum()
        wanted = top_share * above[-1]
        place = BINS - 1 - int(np.searchsorted(above, wanted))
        found.append(float(_lower_edge(max(place, 0))))
    return found


def _bins(scores: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """Order-preserving: the sign bit turned for positive numbers, all bits for negative ones."""
    bits = (scores + np.float32(0)).view(np.uint32)
    keys = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))
    return (keys >> np.uint32(16)).astype(np.int64)


def _lower_edge(place: int) -> np.float32:
    key = np.uint32(place << 16)
    bits = ~key if not key >> 31 else key & np.uint32(0x7FFFFFFF)
    return np.array([bits], np.uint32).view(np.float32)[0]  # type: ignore[no-any-return]
