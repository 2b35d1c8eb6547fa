"""The captions that come most often, against counting them all."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.negatives import frequent
from stages.negatives.frequent import Buckets, counted_among


def of(captions: list[tuple[int, int]], kind: pa.DataType) -> pa.StructArray:
    ids = [
        image.to_bytes(16, "little") if pa.types.is_fixed_size_binary(kind) else f"i{image}" for image, _ in captions
    ]
    columns = [pa.array(ids, kind), pa.array([index for _, index in captions], pa.uint16())]
    return pa.StructArray.from_arrays(columns, names=frequent.KEY)


@settings(deadline=None)
@given(
    shards=st.lists(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 2)), max_size=40), max_size=5),
    most=st.integers(1, 6),
    buckets=st.sampled_from([2, 8, 1 << 12]),
    fullest=st.sampled_from([1, 3]),
    kind=st.sampled_from([pa.binary(16), pa.string()]),
)
def test_the_most_frequent_are_those_of_counting_all(
    shards: list[list[tuple[int, int]]], most: int, buckets: int, fullest: int, kind: pa.DataType
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frequent, "BUCKETS", buckets)
        patch.setattr(frequent, "FULLEST", min(fullest, buckets - 1))
        patch.setattr(frequent, "ROOM", 5)
        arrays = [of(shard, kind) for shard in shards]
        counted = Buckets()
        for array in arrays:
            counted.add(array)
        found = counted.best(
            most, lambda buckets: counted_among(arrays[:1], buckets) + counted_among(arrays[1:], buckets)
        )
    counts = Counter((row["image_id"], row["caption_index"]) for array in arrays for row in array.to_pylist())
    wanted = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:most]
    assert [((one["image_id"], one["caption_index"]), one["times"]) for one in found] == wanted
