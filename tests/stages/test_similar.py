"""Similar captions: brute force over scikit-learn's vectors and rank-bm25's scores. What the ceiling leaves out."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from rank_bm25 import BM25Okapi

from pairloom.errors import ConfigError
from pairloom.store.folder import open_folder
from pairloom.table import metadata
from pipeline.config import RunConfig
from pipeline.executor import Options, run_stage
from schemas.pairs import PAIRS
from stages import negatives, similar
from stages.similar import Config
from tests.building import write_table
from tests.pipeline.helpers import hashes
from tests.stages.memory import InMemory
from tests.stages.negatives.corpus import curated as curated_on_disk
from tests.stages.negatives.test_negatives import CLOSE, PUBLISHED, brute_force, curated, made_up, tfidf

INLINE = Options(RunConfig(cluster="inline"))
Found = list[tuple[str, int, float]]  # image id, caption index, similarity


def found_by(stage: Any, config: Any, table: pa.Table, folder: Path, column: str) -> list[Found]:
    """What a stage lists for each caption of a table."""
    folder.mkdir()
    stage.index(InMemory("curate", [table]), config, folder)
    rows = stage.process(table, stage.setup(config, folder))[column].to_pylist()
    return [
        [(one["image_id"].rstrip(b"\0").decode(), one["caption_index"], one["similarity"]) for one in caption]
        for row in rows
        for caption in row
    ]


def above(texts: list[str], images: list[str], similarity: Any, floor: float) -> list[Found]:
    """Of each caption all captions of other images and other texts with more than the floor, most similar first."""
    return brute_force(texts, images, similarity, negatives.Config(floor=floor, ceiling=math.inf, **PUBLISHED))


def check(found: list[Found], wanted: list[Found], top_k: int) -> None:
    """The same captions in the same order. Within a hair of a tie, rounding may decide which comes first."""
    for got, expected in zip(found, wanted, strict=True):
        assert len(got) == min(len(expected), top_k)
        np.testing.assert_allclose([one[2] for one in got], [one[2] for one in expected[:top_k]], atol=CLOSE)
        truth = {one[:2]: one[2] for one in expected}
        assert all(truth[one[:2]] == pytest.approx(one[2], abs=CLOSE) for one in got)


@pytest.mark.parametrize(("floor", "top_k"), [(0.5, 8), (0.5, 2), (0.3, 5), (0.8, 3)])
def test_the_similar_captions_are_those_of_brute_force(tmp_path: Path, floor: float, top_k: int) -> None:
    texts, images = made_up(90, seed=5)
    similarity = tfidf(texts)
    assert not (np.abs(similarity - floor) < CLOSE).any()
    wanted = above(texts, images, similarity, floor)
    assert any(len(one) < top_k for one in wanted)  # not every list is full
    assert any(len(one) >= top_k for one in wanted)
    found = found_by(similar, Config(floor=floor, top_k=top_k), curated(texts, images), tmp_path / "index", "similar")
    check(found, wanted, top_k)


def test_by_bm25_they_are_those_of_rank_bm25(tmp_path: Path) -> None:
    texts, images = made_up(60, seed=4)
    tokens = [text.split() for text in texts]
    scores = np.array([BM25Okapi(tokens).get_scores(query) for query in tokens])
    own = scores.diagonal()[:, None]
    similarity = np.where(own > 0, scores / np.where(own > 0, own, 1), 0)
    assert not (np.abs(similarity - 0.5) < CLOSE).any()
    assert (similarity > 1).any()  # a shorter caption with the same words: no ceiling leaves it out
    config = Config(scorer="bm25", top_k=6)
    found = found_by(similar, config, curated(texts, images), tmp_path / "index", "similar")
    assert max(one[2] for caption in found for one in caption) > 1
    check(found, above(texts, images, similarity, 0.5), 6)


def test_what_the_ceiling_leaves_out_is_what_the_floor_lets_in(tmp_path: Path) -> None:
    texts, images = made_up(60, seed=7)
    table = curated(texts, images)
    low = found_by(negatives, negatives.Config(top_k=100, **PUBLISHED), table, tmp_path / "low", "negatives")
    high = found_by(similar, Config(top_k=100), table, tmp_path / "high", "similar")
    every = above(texts, images, tfidf(texts), 0)
    for below, over, both in zip(low, high, every, strict=True):
        assert {one[:2] for one in below}.isdisjoint(one[:2] for one in over)
        assert {one[:2] for one in (*below, *over)} == {one[:2] for one in both}


def test_nothing_of_the_image_itself_or_of_another_language_is_similar(tmp_path: Path) -> None:
    curated_on_disk(tmp_path, range(3))
    done = run_stage("similar", Config(floor=0.2, top_k=4), tmp_path, INLINE)
    langs = {
        (row["image_id"], index): caption["lang"]
        for _, table in open_folder(tmp_path / "curate").tables()
        for row in table.to_pylist()
        for index, caption in enumerate(row["captions"])
    }
    lengths = []
    for _, table in open_folder(tmp_path / "similar").tables():
        assert metadata(table)["similar_top_k"] == "4"
        for row in table.to_pylist():
            for index, found in enumerate(row["similar"]):
                lengths.append(len(found))
                for one in found:
                    assert one["image_id"] != row["image_id"]
                    assert langs[one["image_id"], one["caption_index"]] == langs[row["image_id"], index]
                    assert one["similarity"] > 0.2
    assert len(lengths) == len(langs)
    assert max(lengths) == 4
    without = lengths.count(0)
    assert done.summary == {
        "captions": len(lengths), "similar": sum(lengths), "without": without,
        "without_share": round(without / len(lengths), 4),
    }  # fmt: skip


def test_it_leaves_the_hard_negatives_as_they_are(tmp_path: Path) -> None:
    curated_on_disk(tmp_path, range(2))
    run_stage("negatives", negatives.Config(), tmp_path, INLINE)
    before = hashes(tmp_path / "negatives")
    run_stage("similar", Config(), tmp_path, INLINE)
    assert hashes(tmp_path / "negatives") == before
    assert run_stage("negatives", negatives.Config(), tmp_path, INLINE).made == 0


def test_an_empty_shard_has_none_and_a_caption_without_a_term_has_none(tmp_path: Path) -> None:
    write_table(tmp_path / "curate", PAIRS, {"00000": PAIRS.empty()}, "curate")
    assert run_stage("similar", Config(), tmp_path, INLINE).summary["captions"] == 0
    table = curated(["a b", "a b!", "red dog", "dog red"], ["w", "x", "y", "z"])
    found = found_by(similar, Config(), table, tmp_path / "index", "similar")
    assert [[one[:2] for one in caption] for caption in found] == [[], [], [("z", 0)], [("y", 0)]]


def test_bad_settings_are_named() -> None:
    with pytest.raises(ConfigError, match=r"^floor is 1\.0"):
        Config(floor=1.0)
    with pytest.raises(ConfigError, match=r"^top_k is 0"):
        Config(top_k=0)
