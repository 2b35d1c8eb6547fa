"""Curate by what stage score says: thresholds, top shares and heads, against plain arithmetic."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pairloom.errors import ConfigError, InputError
from pairloom.typed import build
from schemas.score import SCORE
from stages import curate
from tests.stages.curate.test_curate import Row, reasons, row, run, texts

Scored = tuple[Row, list[float | None], dict[str, float]]


def scores(rows: Sequence[Scored]) -> pa.Table:
    """The table of these rows, whose captions are clean."""
    of_heads = [[{"name": name, "value": value} for name, value in heads.items()] for _, _, heads in rows]
    return SCORE.table(
        metadata={"score_width": "1"},
        image_id=[one["image_id"] for one, _, _ in rows],
        num_texts=[len(values) for _, values, _ in rows],
        texts=[texts(one) for one, _, _ in rows],
        similarity=[values for _, values, _ in rows],
        heads=of_heads,
    )


def curated(folder: Path, shards: Sequence[Sequence[Scored]], **rules: Any) -> list[tuple[list[Row], list[Row]]]:
    return run(folder, [[one for one, _, _ in shard] for shard in shards], [scores(shard) for shard in shards], **rules)


def test_a_caption_below_the_threshold_goes_and_its_image_with_the_last_one(tmp_path: Path) -> None:
    first = row(1, "a cat", "a dog")
    second = row(2, "a cup", "a tree")
    shard: list[Scored] = [(first, [0.3, 0.1], {}), (second, [0.29, 0.27999], {}), (row(3, "a hat"), [0.28], {})]
    [(kept, rejects)] = curated(tmp_path, [shard], min_similarity=0.29)
    assert [texts(one) for one in kept] == [["a cat"], ["a cup"]]
    assert reasons(rejects) == ["caption-dropped", "caption-dropped", "caption-score"]
    assert rejects[0]["detail"] == "similarity 0.1, below 0.29"


def test_a_row_that_was_not_scored_goes(tmp_path: Path) -> None:
    there, lost = row(1, "a cat"), row(2, "a dog")
    [(kept, rejects)] = run(tmp_path, [[there, lost]], [scores([(there, [0.4], {"nsfw": 0.1})])], min_similarity=0.2)
    assert [one["image_id"][0] for one in kept] == [1]
    assert rejects[0]["detail"] == "no similarity: stage score left its picture out"


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    values=st.lists(st.lists(st.integers(-50, 50), min_size=1, max_size=4), min_size=1, max_size=4),
    share=st.sampled_from([0.1, 0.3, 0.5, 1.0]),
)
def test_the_top_share_is_that_of_a_plain_sort(values: list[list[int]], share: float, tmp_path_factory: Any) -> None:
    shards: list[list[Scored]] = [
        [(row(1 + 10 * n + i, f"a caption {i}"), [value / 64], {}) for i, value in enumerate(own)]
        for n, own in enumerate(values)
    ]
    found = curated(tmp_path_factory.mktemp("top"), shards, top_similarity=share, max_distance=None)
    ordered = sorted((value for own in values for value in own), reverse=True)
    floor = ordered[math.ceil(share * len(ordered) - 1e-9) - 1]
    stays = [[value >= floor for value in own] for own in values]
    assert [len(kept) for kept, _ in found] == [sum(own) for own in stays]


def test_so_far_a_later_shard_changes_no_earlier_one(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((3, 20))
    shards: list[list[Scored]] = [
        [(row(1 + 20 * n + i, "a caption"), [float(value)], {}) for i, value in enumerate(own)]
        for n, own in enumerate(values)
    ]
    rules: dict[str, Any] = {"top_similarity": 0.4, "counted": "so-far", "max_distance": None}
    (tmp_path / "all").mkdir()
    (tmp_path / "first").mkdir()
    whole = curated(tmp_path / "all", shards, **rules)
    assert whole[:2] == curated(tmp_path / "first", shards[:2], **rules)
    assert len(whole[0][0]) in (8, 9)


def test_heads_keep_what_lies_within_their_limits(tmp_path: Path) -> None:
    shard: list[Scored] = [
        (row(1, "a cat"), [0.3], {"nsfw": 0.4, "aesthetic": 5.0}),
        (row(2, "a cat"), [0.3], {"nsfw": 0.6, "aesthetic": 5.0}),
        (row(3, "a cat"), [0.3], {"nsfw": 0.4, "aesthetic": 4.9}),
        (row(4, "a cat"), [0.3], {"nsfw": 0.4}),
    ]
    limits = ({"head": "nsfw", "most": 0.5}, {"head": "aesthetic", "least": 5})
    config = build(curate.Config, {"head_limits": list(limits)}, "test")
    [(kept, rejects)] = curated(tmp_path, [shard], head_limits=config.head_limits)
    assert [one["image_id"][0] for one in kept] == [1]
    assert reasons(rejects) == ["image-score"] * 3
    wanted = ["nsfw is 0.6, above 0.5", "aesthetic is 4.9, below 5", "no score of head aesthetic"]
    assert [one["detail"] for one in rejects] == wanted
    with pytest.raises(ConfigError, match="names nsfw without a limit"):
        build(curate.Config, {"head_limits": [{"head": "nsfw"}]}, "test")


def test_captions_of_duplicates_are_handed_over_if_they_were_similar_enough(tmp_path: Path) -> None:
    shards: list[list[Scored]] = [
        [(row(1, "a cat"), [0.3], {}), (row(1, "a grey cat", "a dog", number=1), [0.35, 0.1], {})],
        [(row(1, "an old cat", "a tree", number=2), [0.4, 0.2], {})],
    ]
    (tmp_path / "shard").mkdir()
    (tmp_path / "corpus").mkdir()
    [(kept, rejects), (_, later)] = curated(tmp_path / "shard", shards, min_similarity=0.28)
    assert [texts(one) for one in kept] == [["a cat", "a grey cat"]]
    assert reasons(rejects) == ["duplicate"]
    assert "a dog" in json.loads(rejects[0]["row"])["captions"][1]["text"]  # it is in the quarantine, not lost
    assert reasons(later) == ["duplicate", "caption-lost"]
    [(kept, _), _] = curated(tmp_path / "corpus", shards, min_similarity=0.28, unite_captions="corpus")
    assert [texts(one) for one in kept] == [["a cat", "a grey cat", "an old cat"]]


@pytest.mark.parametrize("profile", ["datacomp-clip-score", "laion-2b"])
def test_published_profiles_read_the_scores(profile: str) -> None:
    config = build(curate.Config, {"profile": profile}, "test")
    assert curate.inputs(config) == ("download", "score")
    assert curate.inputs(build(curate.Config, {}, "test")) == ("download",)


def with_vectors(table: pa.Table, vectors: Sequence[Sequence[float]]) -> pa.Table:
    packed = [np.array(vector, "<f2").tobytes() for vector in vectors]
    place = table.schema.get_field_index("image_embedding")
    return table.set_column(
        place, table.schema.field(place), pa.array(packed, pa.large_binary())
    ).replace_schema_metadata({"score_width": "2"})


def test_images_that_mean_the_same_go_with_all_that_equal_them(tmp_path: Path) -> None:
    first: list[Scored] = [(row(1, "a cat"), [0.3], {}), (row(2, "a dog"), [0.3], {}), (row(3, "a cup"), [0.3], {})]
    second: list[Scored] = [(row(4, "a kitten"), [0.3], {}), (row(4, "the kitten", number=7), [0.3], {})]
    # angles of 0, 50, 90, and twice 3 degrees: one cluster, whose centre lies between. The farthest comes first
    angles = np.radians([0, 50, 90, 3, 3])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    tables = [with_vectors(scores(first), vectors[:3].tolist()), with_vectors(scores(second), vectors[3:].tolist())]
    shards = [[one for one, _, _ in shard] for shard in (first, second)]
    [(kept, rejects), (later, others)] = run(tmp_path, shards, tables, max_cosine=0.99, clusters=1, max_distance=None)
    assert [texts(one) for one in kept] == [["a cat"], ["a dog"], ["a cup"]]
    assert later == [] == rejects
    assert reasons(others) == ["semantic-duplicate", "caption-lost", "semantic-duplicate", "caption-lost"]
    assert others[0]["detail"] == f"of {'01' * 16}, cosine {np.cos(np.radians(3)):.4f}"


def test_without_vectors_it_says_which_setting_is_missing(tmp_path: Path) -> None:
    shard: list[Scored] = [(row(1, "a cat"), [0.3], {})]
    with pytest.raises(InputError, match=r"lacks vectors of pictures[\s\S]*image_embedding: true"):
        curated(tmp_path, [shard], max_cosine=0.9)
