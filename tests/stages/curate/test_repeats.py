"""Counts up to a shard's end, against counting by hand."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis.strategies import floats, integers, lists, none, one_of, sets

from stages.curate.repeats import floors, repeated

SHARDS = lists(lists(sets(integers(0, 5), max_size=4), max_size=6), max_size=5)  # shards of images of caption hashes


@given(shards=SHARDS, most=one_of(none(), integers(1, 6)), share=one_of(none(), floats(0.05, 1.0)))
def test_a_caption_is_repeated_if_too_many_images_so_far_have_it(
    shards: list[list[set[int]]], most: int | None, share: float | None
) -> None:
    arrays = [np.array([text for image in shard for text in sorted(image)], np.uint64) for shard in shards]
    found = repeated(arrays, [len(shard) for shard in shards], most, share)
    counts: Counter[int] = Counter()
    images = 0
    for shard, here in zip(shards, found, strict=True):
        images += len(shard)
        for image in shard:
            counts.update(image)
        limit = min(most or 10**9, max(1.0, share * images) if share else 10**9)
        assert here == {text for image in shard for text in image if counts[text] > limit}


@given(
    shards=lists(lists(floats(-100, 100, width=16), min_size=1, max_size=30), min_size=1, max_size=4),
    share=floats(0.01, 1),
)
def test_the_floor_lets_the_top_share_of_all_scores_so_far_pass(shards: list[list[float]], share: float) -> None:
    so_far: list[float] = []
    for scores, floor in zip(shards, floors([np.array(s, np.float32) for s in shards], share), strict=True):
        so_far += scores
        passing = [score for score in so_far if score >= floor]
        assert len(passing) >= share * len(so_far)
        lowest = [score for score in passing if score > min(passing)]  # without the last bin (equal float16 scores)
        assert len(lowest) < share * len(so_far)


def test_rows_without_a_score_do_not_count() -> None:
    (floor,) = floors([np.array([np.nan, 1.0, 2.0, 3.0, 4.0, np.nan], np.float32)], 0.5)
    assert floor == 3.0
