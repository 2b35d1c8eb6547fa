"""Images like an image: brute force over scikit-learn's and over stored vectors. Their regions come with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer

from inspection.lint import lint
from pairloom.errors import ConfigError, InputError
from pairloom.store.folder import open_folder
from pairloom.table import metadata
from pipeline.config import RunConfig
from pipeline.executor import Options, run_stage
from schemas.neighbours import NEIGHBOURS
from schemas.regions import REGIONS
from schemas.score import SCORE
from stages import neighbours
from stages.neighbours import Config
from tests.building import numbered, write_table
from tests.inspection.synthetic import FLOW
from tests.stages.memory import InMemory

INLINE = Options(RunConfig(cluster="inline"))
CLASSES = ("dog", "cup", "bus", "tree", "hat", "kite", "pear", "sofa")
WIDTH = 6
Image = dict[str, Any]
CLOSE = 2e-3  # vectors are kept in float16


def image(number: int, classes: list[int], scores: list[float] | None = None) -> Image:
    rng = np.random.default_rng(number)
    count = len(classes)
    corners = rng.uniform(0, 20, (count, 2))
    return {
        "image_id": rng.bytes(16), "width": 40 + number % 7, "height": 60, "num_regions": count,
        "boxes": np.concatenate([corners, corners + 9], axis=1), "class_ids": np.array(classes),
        "class_scores": np.array(scores or [0.9] * count), "features": rng.normal(size=(count, WIDTH)),
    }  # fmt: skip


def table_of(images: list[Image], dtype: str = "<f2") -> pa.Table:
    notes = {
        "feature_width": str(WIDTH), "feature_dtype": dtype, "classes": json.dumps(CLASSES), "prob_width": "0",
        "attributes": '["none"]', "grid_side": "0", "order": "score",
    }  # fmt: skip
    columns = {name: [one[name] for one in images] for name in images[0]}
    zeros = [np.zeros(one["num_regions"]) for one in images]
    nothing = [np.zeros((len(one), 0)) for one in zeros]
    return REGIONS.table(
        metadata=notes, **columns, attribute_ids=zeros, attribute_scores=zeros, prob_ids=nothing, prob_values=nothing
    )


def some(count: int, seed: int) -> list[Image]:
    rng = np.random.default_rng(seed)
    return [image(1000 * seed + n, rng.integers(0, len(CLASSES), rng.integers(1, 6)).tolist()) for n in range(count)]


def found_in(images: list[Image], config: Config, folder: Path) -> list[dict[str, Any]]:
    """The rows of images that lie in two shards, in the images' order."""
    half = max(len(images) // 2, 1)
    shards = [table_of(part) for part in (images[:half], images[half:]) if part]
    corpus = InMemory("regions", shards)
    folder.mkdir()
    neighbours.index(corpus, config, folder)
    tools = neighbours.setup(config, folder)
    return [row for shard in shards for row in neighbours.process(shard, tools).to_pylist()]


def cosines(images: list[Image]) -> Any:
    """Of every two images, by scikit-learn, of the names of the classes that each shows."""
    shown = [one["class_ids"][one["class_scores"] > 0.2] for one in images]
    texts = [" ".join(CLASSES[number] for number in own) for own in shown]
    vectors = TfidfVectorizer(binary=True).fit_transform(texts)
    return (vectors @ vectors.T).toarray()


def check(images: list[Image], rows: list[dict[str, Any]], similarity: Any, top_k: int) -> None:
    """The same similarities as brute force has, of images that have them. Ties go by image_id."""
    ids = [one["image_id"] for one in images]
    for number, row in enumerate(rows):
        wanted = sorted(-similarity[number, other] for other in range(len(ids)) if other != number)
        wanted = [-one for one in wanted if one < -CLOSE][:top_k]
        got = [one["similarity"] for one in row["neighbours"]]
        np.testing.assert_allclose(got, wanted, atol=CLOSE)
        for one in row["neighbours"]:
            assert one["image_id"] != ids[number]
            assert one["similarity"] == pytest.approx(similarity[number, ids.index(one["image_id"])], abs=CLOSE)
        order = [(-one["similarity"], one["image_id"]) for one in row["neighbours"]]
        assert order == sorted(order)


@pytest.mark.parametrize("top_k", [1, 4, 50])
def test_by_objects_they_are_those_of_brute_force(tmp_path: Path, top_k: int) -> None:
    images = some(40, seed=3)
    images[5] = image(7, [0, 1], [0.9, 0.1])  # a class without confidence does not count
    images[6] = image(8, [2], [0.1])  # and without any class an image is like none
    rows = found_in(images, Config(top_k=top_k), tmp_path / "index")
    check(images, rows, cosines(images), top_k)
    assert rows[6]["neighbours"] == []
    assert rows[6]["neighbour_features"] == b""


def test_by_embedding_they_are_those_of_brute_force(tmp_path: Path) -> None:
    images, rng = some(30, seed=4), np.random.default_rng(0)
    vectors = rng.normal(size=(len(images) + 1, 5))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    halves = vectors.astype(np.float16).astype(np.float64)
    unit = halves / np.linalg.norm(halves, axis=1, keepdims=True)
    ids = [one["image_id"] for one in images]
    score = SCORE.table(  # in another order, one image more, and one of the images is missing
        metadata={"score_width": "5"}, image_id=[*ids[:0:-1], bytes(16)], num_texts=[1] * len(ids),
        texts=[["t"]] * len(ids), similarity=[[0.1]] * len(ids), heads=[[]] * len(ids),
        image_embedding=[*vectors[len(ids) - 1 : 0 : -1], vectors[-1]], text_embedding=[np.zeros((1, 5))] * len(ids),
    )  # fmt: skip
    corpus, config = InMemory("regions", [table_of(images)]), Config(by="embedding", top_k=6)
    corpus.others["score"] = {"00000": score}
    (tmp_path / "index").mkdir()
    neighbours.index(corpus, config, tmp_path / "index")
    rows = neighbours.process(table_of(images), score, neighbours.setup(config, tmp_path / "index")).to_pylist()
    assert neighbours.inputs(config) == ("regions", "score")
    similarity = unit[: len(ids)] @ unit[: len(ids)].T
    similarity[0], similarity[:, 0] = 0, 0  # without a vector
    check(images, rows, similarity, 6)


def test_their_first_regions_come_with_them(tmp_path: Path) -> None:
    images = some(20, seed=5)
    known = {one["image_id"]: one for one in images}
    for row in found_in(images, Config(top_k=3, max_regions=2), tmp_path / "index"):
        features = np.frombuffer(row["neighbour_features"], "<f2").reshape(-1, WIDTH)
        boxes = np.frombuffer(row["neighbour_boxes"], "<f4").reshape(-1, 4)
        assert len(features) == len(boxes) == row["neighbour_regions"]
        for one in row["neighbours"]:
            other, count = known[one["image_id"]], one["num_regions"]
            assert count == min(2, other["num_regions"])
            np.testing.assert_array_equal(features[:count], other["features"][:count].astype("<f2"))
            sides = np.array([other["width"], 60, other["width"], 60])
            np.testing.assert_allclose(boxes[:count], other["boxes"][:count] / sides, rtol=1e-6)
            features, boxes = features[count:], boxes[count:]
        assert not len(features)


@given(
    shown=st.lists(st.lists(st.integers(0, 7), min_size=1, max_size=4), min_size=1, max_size=12),
    top_k=st.integers(1, 5),
)
@settings(max_examples=20, deadline=None)
def test_of_any_images_the_most_similar_are_found(tmp_path_factory: Any, shown: list[list[int]], top_k: int) -> None:
    images = [image(number, classes) for number, classes in enumerate(shown)]
    rows = found_in(images, Config(top_k=top_k), tmp_path_factory.mktemp("any") / "index")
    check(images, rows, cosines(images), top_k)


def test_features_of_float32_become_float16_and_those_beyond_it_are_not_shown(tmp_path: Path) -> None:
    images = [image(1, [0]), image(2, [0]), image(3, [0])]
    images[1]["features"] = np.full((1, WIDTH), 1e6)
    (tmp_path / "index").mkdir()
    table = table_of(images, "<f4")
    neighbours.index(InMemory("regions", [table]), Config(), tmp_path / "index")
    first = neighbours.process(table, neighbours.setup(Config(), tmp_path / "index")).to_pylist()[0]
    counts = {one["image_id"]: one["num_regions"] for one in first["neighbours"]}
    assert counts == {images[1]["image_id"]: 0, images[2]["image_id"]: 1}
    np.testing.assert_array_equal(
        np.frombuffer(first["neighbour_features"], "<f2"), images[2]["features"][0].astype("<f2")
    )


def test_the_stage_counts_what_it_found_and_lint_finds_nothing_wrong(tmp_path: Path) -> None:
    write_table(tmp_path / "regions", REGIONS, numbered([table_of(some(15, seed)) for seed in (1, 2)]))
    done = run_stage("neighbours", Config(), tmp_path, INLINE)
    folder = open_folder(tmp_path / "neighbours")
    lengths = [len(row) for _, table in folder.tables() for row in table["neighbours"]]
    assert done.summary == {"images": 30, "neighbours": sum(lengths), "without": 0, "without_share": 0.0}
    assert {metadata(table)["neighbour_top_k"] for _, table in folder.tables()} == {"4"}
    assert not lint(tmp_path / "neighbours", FLOW)


WRONG = {
    "order": "neighbours.similarity rises from",
    "reference": "one of neighbours is the image itself",
    "doubled": "an image is one of neighbours twice",
    "length": "regions, the row says",
    "range": "neighbour_boxes is 7.0",
}


@pytest.mark.parametrize("check", WRONG)
def test_lint_names_what_is_wrong_in_the_table(check: str, tmp_path: Path) -> None:
    def change(row: dict[str, Any]) -> None:
        first, second = row["neighbours"][:2]
        if check == "order":
            row["neighbours"][0], row["neighbours"][1] = second | {"similarity": 0.1}, first | {"similarity": 0.2}
        elif check in ("reference", "doubled"):
            second["image_id"] = {"reference": row["image_id"], "doubled": first["image_id"]}[check]
        elif check == "length":
            first["num_regions"] += 1
        else:
            row["neighbour_boxes"] = np.full(4 * row["neighbour_regions"], 7, "<f4").tobytes()

    table = table_of(some(12, 1))
    neighbours.index(InMemory("regions", [table]), Config(max_regions=1), tmp_path)
    made = neighbours.process(table, neighbours.setup(Config(max_regions=1), tmp_path))
    rows = made.to_pylist()
    change(rows[3])
    wrong = pa.Table.from_pylist(rows, made.schema)
    found = lint(write_table(tmp_path / "neighbours", NEIGHBOURS, {"00000": wrong}), FLOW)
    assert [(one.check, WRONG[check] in one.what) for one in found] == [(check, True)]


def test_an_empty_shard_has_none_and_an_image_that_is_there_twice_is_named(tmp_path: Path) -> None:
    write_table(tmp_path / "regions", REGIONS, {"00000": table_of([image(1, [0])]).slice(0, 0)})
    assert run_stage("neighbours", Config(), tmp_path, INLINE).summary["images"] == 0
    one = image(1, [0])
    with pytest.raises(InputError, match=f"image {one['image_id'].hex()} is there twice"):
        neighbours.index(InMemory("regions", [table_of([one]), table_of([one])]), Config(), tmp_path)


def test_bad_settings_are_named() -> None:
    with pytest.raises(ConfigError, match="top_k is 0"):
        Config(top_k=0)
    with pytest.raises(ConfigError, match=r"floor is 1\.0"):
        Config(floor=1.0)
