"""Counts over the corpus and up to a shard's end, against counting by hand."""

from __future__ import annotations

import struct
from collections import Counter

import numpy as np
from hypothesis import example, given
from hypothesis.strategies import floats, integers, lists, none, one_of, sets

from pairloom.table import Array
from stages.curate.repeats import floors, limits, over


def repeated(
    shards: list[Array], images: list[int], most: int | None, share: float | None, so_far: bool
) -> list[set[int]]:
    """Of each shard the hashes that come too often. Those of one hash are asked for together, in any company."""
    hashes = np.concatenate([*shards, np.empty(0, np.uint64)])
    of = np.repeat(np.arange(len(shards)), [len(shard) for shard in shards])
    found = over(hashes, of, None, limits(images, most, share, so_far), so_far)
    return [set(hashes[found & (of == number)].tolist()) for number in range(len(shards))]


SHARDS = lists(lists(sets(integers(0, 5), max_size=4), max_size=6), max_size=5)  # shards of images of caption hashes


@given(shards=SHARDS, most=one_of(none(), integers(1, 6)), share=one_of(none(), floats(0.05, 1.0)))
def test_a_caption_is_repeated_if_too_many_images_so_far_have_it(
    shards: list[list[set[int]]], most: int | None, share: float | None
) -> None:
    arrays = [np.array([text for image in shard for text in sorted(image)], np.uint64) for shard in shards]
    found = repeated(arrays, [len(shard) for shard in shards], most, share, so_far=True)
    counts: Counter[int] = Counter()
    images = 0
    for shard, here in zip(shards, found, strict=True):
        images += len(shard)
        for image in shard:
            counts.update(image)
        limit = min(most or 10**9, max(1.0, share * images) if share else 10**9)
        assert here == {text for image in shard for text in image if counts[text] > limit}


@given(shards=SHARDS, most=one_of(none(), integers(1, 6)), share=one_of(none(), floats(0.05, 1.0)))
def test_over_the_corpus_a_caption_is_repeated_in_every_shard_or_in_none(
    shards: list[list[set[int]]], most: int | None, share: float | None
) -> None:
    arrays = [np.array([text for image in shard for text in sorted(image)], np.uint64) for shard in shards]
    counts = Counter(text for shard in shards for image in shard for text in image)
    limit = min(most or 10**9, max(1.0, share * sum(map(len, shards))) if share else 10**9)
    wanted = [{text for image in shard for text in image if counts[text] > limit} for shard in shards]
    assert repeated(arrays, [len(shard) for shard in shards], most, share, so_far=False) == wanted


def coarse(score: float) -> bytes:
    """What the counters tell apart: the upper 16 bits of a float32."""
    return struct.pack(">f", score + 0.0)[:2]


@given(
    shards=lists(lists(floats(-100, 100, width=16), min_size=1, max_size=30), min_size=1, max_size=4),
    share=floats(0.01, 1),
)
@example(shards=[[71.5, 71.75]], share=0.5)  # one counter for both, so that both pass
@example(shards=[[-0.0, 0.0]], share=0.5)
def test_the_floor_lets_the_top_share_of_all_scores_so_far_pass(shards: list[list[float]], share: float) -> None:
    so_far: list[float] = []
    for scores, floor in zip(
        shards, floors([np.array(s, np.float32) for s in shards], share, so_far=True), strict=True
    ):
        so_far += scores
        passing = [score for score in so_far if score >= floor]
        assert len(passing) >= share * len(so_far)
        above_the_last_counter = [score for score in passing if coarse(score) != coarse(min(passing))]
        assert len(above_the_last_counter) < share * len(so_far)


@given(
    shards=lists(lists(floats(-100, 100, width=16), max_size=30), max_size=4).filter(lambda shards: any(shards)),
    share=floats(0.01, 1),
)
def test_over_the_corpus_all_shards_have_the_floor_of_all_scores(shards: list[list[float]], share: float) -> None:
    arrays = [np.array(scores, np.float32) for scores in shards]
    everything = [np.array([score for scores in shards for score in scores], np.float32)]
    assert floors(arrays, share, so_far=False) == floors(everything, share, so_far=True) * len(shards)


def test_rows_without_a_score_do_not_count() -> None:
    (floor,) = floors([np.array([np.nan, 1.0, 2.0, 3.0, 4.0, np.nan], np.float32)], 0.5, so_far=True)
    assert floor == 3.0
