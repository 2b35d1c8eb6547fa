"""How many lists one caption stands in: the limit against plain Python, in memory and shard by shard on disk."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairloom.store.folder import open_folder
from pipeline.config import RunConfig
from pipeline.executor import Options, run_stage
from stages.negatives import Config, hubs, mine
from stages.negatives.mining import Neighbours
from tests.pipeline.helpers import hashes
from tests.stages.negatives.corpus import curated
from tests.stages.negatives.test_negatives import made_up

Entry = tuple[str, int, float]


def listed(mined: pa.Table) -> list[list[Entry]]:
    rows = mined["negatives"].to_pylist()
    return [[(one["image_id"], one["caption_index"], one["similarity"]) for one in row] for row in rows]


def limited(names: list[Any], lists: list[list[Entry]], most: int, top_k: int) -> list[list[Entry]]:
    """The rule in plain Python. lists: twice as long as they become; names: whose they are, (image_id, caption)."""
    askers = defaultdict(list)
    for name, own in zip(names, lists, strict=True):
        for image, index, value in own:
            askers[image, index].append((-value, name))
    may = {one: {name for _, name in sorted(asking)[:most]} for one, asking in askers.items()}
    return [[one for one in own if name in may[one[0], one[1]]][:top_k] for name, own in zip(names, lists, strict=True)]


@pytest.mark.parametrize(
    "rule", [{}, {"against": "caption", "distinct": False}, {"veto": "captions", "val_share": 0.3}]
)
@pytest.mark.parametrize("most", [1, 7, 40])
def test_a_caption_stands_in_the_lists_to_which_it_is_most_similar(rule: dict[str, Any], most: int) -> None:
    texts, images = made_up(240, seed=5)
    whole = mine(texts, images, config=Config(top_k=12, **rule))
    names = list(zip(images, whole["caption_index"].to_pylist(), strict=True))
    found = mine(texts, images, config=Config(top_k=6, max_lists=most, **rule))
    assert listed(found) == limited(names, listed(whole), most, 6)
    times = Counter(one[:2] for own in listed(found) for one in own)
    assert max(times.values()) <= most
    assert found["short"].to_pylist() == [6 - len(own) for own in listed(found)]


def test_a_limit_that_no_caption_reaches_changes_nothing() -> None:
    texts, images = made_up(120, seed=6)
    assert listed(mine(texts, images, config=Config(top_k=5, max_lists=10_000))) == listed(
        mine(texts, images, config=Config(top_k=5))
    )


LISTS = st.lists(st.lists(st.tuples(st.integers(0, 8), st.sampled_from([0.1, 0.2, 0.3])), max_size=6), max_size=8)


@settings(max_examples=80)
@given(lists=LISTS, most=st.integers(1, 4), at_once=st.integers(1, 6), cut=st.integers(1, 4))
def test_the_last_list_of_each_caption_is_that_of_sorting_all(lists: Any, most: int, at_once: int, cut: int) -> None:
    """In however many pieces they come, and however few are sorted together."""
    own = [sorted({place: np.float32(value) for place, value in each}.items()) for each in lists]
    parts = [
        hubs.as_table(0, np.arange(low, low + len(own[low : low + cut])), neighbours(own[low : low + cut]))
        for low in range(0, len(own), cut)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hubs, "AT_ONCE", at_once)
        last = hubs.limits(parts, 9, most)
    askers = defaultdict(list)
    for rank, each in enumerate(own):
        for place, value in each:
            askers[place].append((-value, rank))
    for place, asking in askers.items():
        found = last.kept(np.array([rank for _, rank in asking]), neighbours([[(place, -v)] for v, _ in asking]), 1)
        may = {rank for _, rank in sorted(asking)[:most]}
        assert found.counts.tolist() == [int(rank in may) for _, rank in asking]


def neighbours(lists: list[list[tuple[int, Any]]]) -> Neighbours:
    flat = [one for own in lists for one in own]
    places = np.array([place for place, _ in flat], np.int64)
    return Neighbours(np.array([len(own) for own in lists]), places, np.array([v for _, v in flat], np.float32))


def test_neither_shards_nor_growth_change_the_lists(tmp_path: Path) -> None:
    config, options = Config(top_k=5, max_lists=9, idf="frozen"), Options(RunConfig(cluster="inline"))
    for shards in (range(2), range(3)):
        curated(tmp_path / "grown", shards)
        run_stage("negatives", config, tmp_path / "grown", options)
    curated(tmp_path / "full", range(3))
    run_stage("negatives", config, tmp_path / "full", options)
    assert hashes(tmp_path / "grown" / "negatives") == hashes(tmp_path / "full" / "negatives")
    tables = [table for _, table in open_folder(tmp_path / "full" / "negatives").tables()]
    every = [one for table in tables for row in table["negatives"].to_pylist() for own in row for one in own]
    times = Counter((one["image_id"], one["caption_index"]) for one in every)
    assert max(times.values()) == 9
