"""The captions that are negatives most often: found exactly, in two looks at all negatives and little memory.

The first look counts hashes of captions in a fixed number of buckets, so that no caption comes more often than its
bucket. The second counts the captions of the fullest buckets one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from stages.negatives.captions import Array, id_bytes

KEY = ["image_id", "caption_index"]
BUCKETS = 1 << 22
FULLEST = 1 << 12  # buckets whose captions are counted at first
ROOM = 1 << 20  # rows that wait to be counted


class Buckets:
    """How often captions of each bucket have come, int64."""

    def __init__(self) -> None:
        self.counts = np.zeros(BUCKETS, np.int64)

    def add(self, negatives: pa.StructArray) -> None:
        numbers, times = np.unique(_buckets(negatives), return_counts=True)
        self.counts[numbers] += times

    def best(self, most: int, counted: Callable[[Array], Iterable[pa.Table]]) -> list[dict[str, Any]]:
        """image_id, caption_index and times of the `most` captions that come most often. Ties go by the first two.

        counted: of the captions of these buckets (bool, (BUCKETS,)) how often they come (`counted_among`), in parts.
        """
        least = max(int(np.partition(self.counts, -FULLEST - 1)[-FULLEST - 1]) + 1, 1)
        while True:
            parts = list(counted(self.counts >= least))
            found = _best(_counted(parts), most) if parts else []
            enough = len(found) == most and found[-1]["times"] >= least
            if enough or least == 1:
                return found
            # a bucket that was not looked into may have a caption that comes as often as the last of these
            least = found[-1]["times"] if len(found) == most else 1


def _buckets(negatives: pa.StructArray) -> Array:
    """Of each caption the number of its bucket."""
    ids = negatives.field("image_id")
    if pa.types.is_fixed_size_binary(ids.type) and ids.type.byte_width >= 8:
        hashes = np.ascontiguousarray(id_bytes(ids)[:, :8]).view("<u8").reshape(-1)
    else:
        encoded = ids.dictionary_encode()
        sums = [xxhash.xxh3_64_intdigest(str(one).encode("utf-8", "surrogatepass")) for one in encoded.dictionary]
        hashes = np.array(sums, np.uint64)[encoded.indices.to_numpy()]
    mixed = (hashes + negatives.field("caption_index").to_numpy().astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
    numbers: Array = (mixed >> np.uint64(64 - (BUCKETS - 1).bit_length())).astype(np.int64)
    return numbers


def counted_among(all_negatives: Iterable[pa.StructArray], buckets: Array) -> list[pa.Table]:
    """How often each caption of these buckets comes: one table, or none."""
    waiting: list[pa.Table] = []
    for negatives in all_negatives:
        chosen = negatives.filter(pa.array(buckets[_buckets(negatives)]))
        if len(chosen):
            once = pa.array(np.ones(len(chosen), np.int64))
            waiting.append(pa.table([*(chosen.field(name) for name in KEY), once], names=[*KEY, "times"]))
        if sum(map(len, waiting)) > ROOM:
            waiting = [_counted(waiting)]
    return [_counted(waiting)] if waiting else []


def _counted(tables: list[pa.Table]) -> pa.Table:
    """One row a caption, with the sum of `times`."""
    grouped = pa.concat_tables(tables).group_by(KEY, use_threads=False).aggregate([("times", "sum")])
    return grouped.rename_columns({"times_sum": "times"})


def _best(counted: pa.Table, most: int) -> list[dict[str, Any]]:
    keys = [("times", "descending"), *((name, "ascending") for name in KEY)]
    best: list[dict[str, Any]] = counted.take(pc.select_k_unstable(counted, min(most, len(counted)), keys)).to_pylist()
    return best
