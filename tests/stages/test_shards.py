"""The shards stage: every planned row once, splits that stay, and a join that loses nothing silently."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from schemas.negatives import NEGATIVES
from schemas.pairs import PAIRS
from schemas.regions import REGIONS
from schemas.tags import TAGS
from stages import shards
from stages.shards import Config


class Listed:
    """A corpus of shards with these image ids, each of 1,000 bytes an image and table."""

    def __init__(self, images: list[list[bytes]]) -> None:
        self.images = {f"{number:05d}": ids for number, ids in enumerate(images)}

    def tables(self, stage: str, columns: Sequence[str]) -> Iterator[tuple[str, pa.Table]]:
        for name, ids in self.images.items():
            yield name, pa.table({"image_id": pa.array(ids, pa.binary(16))})

    def bytes(self, stage: str, name: str) -> int:
        return 1000 * len(self.images[name])


def image(number: int) -> bytes:
    return number.to_bytes(16, "little")


@given(sizes=st.lists(st.integers(0, 9), max_size=6), seed=st.integers(0, 3), share=st.sampled_from([0.0, 0.3, 1.0]))
def test_every_row_is_planned_exactly_once_in_its_own_split(sizes: list[int], seed: int, share: float) -> None:
    starts = np.cumsum([0, *sizes])
    images = [[image(int(start) + row) for row in range(size)] for start, size in zip(starts[:-1], sizes, strict=True)]
    config = Config(seed=seed, val_share=share, shard_bytes=12_000, shuffle_window=2)
    planned = shards.plan(Listed(images), config)
    rows = [(row["shard"], row["row"], plan.name) for plan in planned for row in plan.rows.to_pylist()]
    assert sorted((name, row) for name, row, _ in rows) == [
        (f"{number:05d}", row) for number, size in enumerate(sizes) for row in range(size)
    ]
    for name, row, planned_name in rows:
        assert planned_name.startswith(shards.split_of(images[int(name)][row], config))
    assert all(plan.rows.num_rows <= 4 for plan in planned)  # 4,000 bytes a row over all inputs: three fill a shard


def test_the_share_of_val_is_as_asked_and_an_image_keeps_its_split() -> None:
    config = Config(val_share=0.1)
    splits = [shards.split_of(image(number), config) for number in range(20_000)]
    assert abs(splits.count("val") / 20_000 - 0.1) < 0.01  # five standard deviations


def tables(numbers: list[int], feature: float = 1.0) -> tuple[pa.Table, pa.Table, pa.Table, pa.Table]:
    ids = [image(number) for number in numbers]
    count, one = len(ids), [1] * len(ids)
    ones = [np.ones(1)] * count
    pairs = PAIRS.table(
        image_id=ids, image=[b"x"] * count, format=["jpeg"] * count, width=one, height=one, original_width=one,
        original_height=one, url=["u"] * count, sha256=[bytes(32)] * count, phash=one,
        captions=[[{"text": "a", "original": "a", "lang": None}]] * count, extra=[{}] * count,
    )  # fmt: skip
    regions = REGIONS.table(
        image_id=ids, width=one, height=one, num_regions=one, boxes=[np.ones((1, 4))] * count,
        class_ids=ones, class_scores=ones, attribute_ids=ones, attribute_scores=ones,
        features=[np.full(2, feature)] * count, prob_ids=ones,
        prob_values=ones, metadata={"feature_width": "2"},
    )  # fmt: skip
    tags = TAGS.table(image_id=ids, tags=[[]] * count)
    negatives = NEGATIVES.table(image_id=ids, negatives=[[[]]] * count, short=[[30]] * count)
    return pairs, regions, tags, negatives


def test_the_join_keeps_the_order_and_names_the_part_that_an_image_lacks() -> None:
    pairs, regions, tags, negatives = tables([3, 1, 2])
    joined, rejects = shards.process(
        pairs, regions.take([2, 0]), tags.take([1, 0, 2]), negatives.take([0, 2]), Config()
    )
    assert joined["image_id"].to_pylist() == [image(3), image(2)]
    assert [(row["key"], row["reason"]) for row in rejects.to_pylist()] == [(image(1).hex(), "missing-input")]
    assert "regions, negatives" in rejects["detail"][0].as_py()
    assert joined.schema.metadata[b"feature_width"] == b"2"


def test_a_feature_that_is_no_number_is_rejected() -> None:
    joined, rejects = shards.process(*tables([1, 2], feature=float("nan")), Config())
    assert joined.num_rows == 0
    assert rejects["reason"].to_pylist() == ["bad-value", "bad-value"]
