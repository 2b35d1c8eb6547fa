"""The shards stage: every planned row once, splits that stay, and a join that loses nothing silently."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from inspection.lint import lint
from pairloom import Loader, vectors
from pairloom.errors import MissingColumnsError
from pairloom.extra import EXTRA, as_extra
from pairloom.layout import left_out_columns
from pairloom.table import Array
from pairloom.typed import build
from pipeline.params import Params
from pipeline.stage import wanted
from schemas.negatives import NEGATIVES
from schemas.neighbours import NEIGHBOURS
from schemas.pairs import PAIRS
from schemas.patches import PATCHES
from schemas.regions import REGIONS
from schemas.shards import SHARDS
from schemas.similar import SIMILAR
from schemas.tags import TAGS
from stages import shards
from stages.shards import Config
from tests.building import write_table
from tests.inspection.synthetic import FLOW


class Listed:
    """A corpus of shards with these image ids, each of 1,000 bytes an image and table."""

    def __init__(self, images: list[list[bytes]]) -> None:
        self.images = {f"{number:05d}": ids for number, ids in enumerate(images)}

    def tables(
        self, stage: str, columns: Sequence[str], shards: Collection[str] | None = None
    ) -> Iterator[tuple[str, pa.Table]]:
        for name, ids in self.images.items():
            yield name, pa.table({"image_id": pa.array(ids, pa.binary(16))})

    def hashes(self, stage: str) -> dict[str, str]:
        return {}

    def sizes(self, stage: str) -> dict[str, int]:
        return {name: 1000 * len(ids) for name, ids in self.images.items()}


def dealt(corpus: Listed, config: Config) -> dict[str, list[tuple[str, int]]]:
    """(shard, row) of every row of each planned shard, in order. What the plan says of their number is held."""

    def read(stage: str, name: str, columns: Sequence[str]) -> pa.Table:
        return dict(corpus.tables(stage, columns))[name]

    found = {}
    for window in shards.plan(corpus, config):
        places = [(name, row) for name in window.shards for row in range(len(corpus.images[name]))]
        for (part, count), rows in zip(window.parts, shards.deal(read, window, config), strict=True):
            found[part] = [places[row] for row in rows]
            assert len(rows) == count
    return found


def image(number: int) -> bytes:
    return number.to_bytes(16, "little")


@given(sizes=st.lists(st.integers(0, 9), max_size=6), seed=st.integers(0, 3), share=st.sampled_from([0.0, 0.3, 1.0]))
def test_every_row_is_planned_exactly_once_in_its_own_split(sizes: list[int], seed: int, share: float) -> None:
    starts = np.cumsum([0, *sizes])
    images = [[image(int(start) + row) for row in range(size)] for start, size in zip(starts[:-1], sizes, strict=True)]
    config = Config(seed=seed, val_share=share, shard_bytes=12_000, shuffle_window=2)
    planned = dealt(Listed(images), config)
    rows = [(shard, row, name) for name, part in planned.items() for shard, row in part]
    assert sorted((name, row) for name, row, _ in rows) == [
        (f"{number:05d}", row) for number, size in enumerate(sizes) for row in range(size)
    ]
    for name, row, planned_name in rows:
        assert planned_name.startswith(config.split.of(images[int(name)][row]))
    assert all(len(part) <= 3 for part in planned.values())  # 4,000 bytes a row over all inputs: three fill a shard


@given(
    sizes=st.lists(st.integers(0, 9), max_size=30), seed=st.integers(0, 3), share=st.sampled_from([0.0, 0.3]),
    mixed=st.integers(1, 4), filled=st.integers(1, 9),
)  # fmt: skip
def test_a_shard_holds_rows_of_its_window_alone_and_no_input_is_in_two_windows(
    sizes: list[int], seed: int, share: float, mixed: int, filled: int
) -> None:
    starts = np.cumsum([0, *sizes])
    images = [[image(int(start) + row) for row in range(size)] for start, size in zip(starts[:-1], sizes, strict=True)]
    config = Config(seed=seed, val_share=share, shard_bytes=4000 * filled, shuffle_window=mixed)
    planned = shards.plan(Listed(images), config)
    read = [name for window in planned for name in window.shards]
    assert sorted(read) == sorted(Listed(images).images)
    numbers: dict[str, list[int]] = {}
    for name in (name for window in planned for name, _ in window.parts):
        split, _, number = name.partition("-")
        numbers.setdefault(split, []).append(int(number))
    assert all(found == list(range(len(found))) for found in numbers.values())
    for window in planned[:-1]:  # the last has what is left
        assert 4 * filled <= sum(rows for _, rows in window.parts) < 4 * filled + 9 * mixed


def test_one_window_is_shuffled_as_numpy_would() -> None:
    corpus = Listed([[image(row + 10 * shard) for row in range(10)] for shard in range(3)])
    found = dealt(corpus, Config(seed=5, val_share=0.0, shard_bytes=40_000))
    rng = np.random.Generator(np.random.PCG64(5))
    order = rng.permutation(3)
    rows = [(f"{order[row // 10]:05d}", int(row % 10)) for row in rng.permutation(30)]
    assert found == {f"train-{part:05d}": rows[10 * part : 10 * part + 10] for part in range(3)}


def test_the_share_of_val_is_as_asked_and_an_image_keeps_its_split() -> None:
    config = Config(val_share=0.1)
    splits = [config.split.of(image(number)) for number in range(20_000)]
    assert abs(splits.count("val") / 20_000 - 0.1) < 0.01  # five standard deviations


class Told(Listed):
    """Pairs whose list gives some of them a split."""

    words = ("train", "restval", "val", "test", "validation", "unknown", None)

    def tables(
        self, stage: str, columns: Sequence[str], shards: Collection[str] | None = None
    ) -> Iterator[tuple[str, pa.Table]]:
        for name, table in super().tables(stage, columns, shards):
            extras = [as_extra({"split": word} if word else {}) for word in self.words]
            yield name, table.append_column("extra", pa.array(extras, EXTRA))


def test_the_lists_own_split_is_kept_where_the_settings_ask_for_it() -> None:
    ids = [image(number) for number in range(len(Told.words))]
    config = Config(split_from="split", val_share=0.0)
    planned = dealt(Told([ids]), config)
    assert {name: sorted(row for _, row in rows) for name, rows in planned.items()} == {
        "train-00000": [0, 1, 5, 6], "val-00000": [2, 4], "test-00000": [3],
    }  # fmt: skip
    pairs, *others = tables(list(range(len(ids))))
    extras = pa.array([as_extra({"split": word} if word else {}) for word in Told.words], EXTRA)
    pairs = pairs.set_column(pairs.column_names.index("extra"), "extra", extras)
    joined, _ = shards.process(pairs, *others, config)
    assert joined["split"].to_pylist() == ["train", "train", "val", "test", "val", "train", "train"]


def tables(numbers: list[int], feature: float = 1.0) -> tuple[pa.Table, pa.Table, pa.Table, pa.Table]:
    ids = [image(number) for number in numbers]
    count, one = len(ids), [1] * len(ids)
    ones = [np.ones(1)] * count
    pairs = PAIRS.table(
        image_id=ids, image=[b"x"] * count, format=["jpeg"] * count, width=one, height=one, original_width=one,
        original_height=one, url=["u"] * count, sha256=[bytes(32)] * count, phash=one,
        captions=[[{"text": "a", "original": "a", "lang": None}]] * count, extra=[[]] * count,
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
    assert rejects["detail"][0].as_py() == "region 0 has nan at place 0 of its features"


def test_a_number_in_another_column_that_is_no_number_is_named_with_its_region() -> None:
    pairs, regions, tags, negatives = tables([1])
    boxes = np.array([[0, 0, np.inf, 1]], "<f4").tobytes()
    place = regions.schema.get_field_index("boxes")
    regions = regions.set_column(place, regions.schema.field(place), pa.array([boxes], pa.large_binary()))
    _, rejects = shards.process(pairs, regions, tags, negatives, Config())
    assert rejects["detail"].to_pylist() == ["region 0 has inf in boxes"]


@given(
    vectors_RD=arrays(np.float64, st.tuples(st.integers(1, 5), st.integers(1, 40)), elements=st.floats(-6e4, 6e4)),
    stored=st.sampled_from(["float16", "float32", "int8"]),
)
def test_vectors_come_back_within_the_error_that_their_format_has(vectors_RD: Array, stored: vectors.Stored) -> None:
    numbers, scales = vectors.pack(vectors_RD, stored)
    back = vectors.unpack(numbers, scales, len(vectors_RD), vectors.NUMPY[stored])
    largest = np.abs(vectors_RD).max(axis=1, keepdims=True)
    bound = {  # half a unit in the last of 11 and 24 bits, or half of the smallest number, half a step of 254
        "float16": np.abs(vectors_RD) * 2.0**-11 + 2.0**-25,
        "float32": np.abs(vectors_RD) * 2.0**-24 + 2.0**-150,
        "int8": largest / 254 * (1 + 1e-5) + 1e-38,
    }[stored]
    assert (np.abs(back.astype(np.float64) - vectors_RD) <= bound).all()


@pytest.mark.parametrize(("value", "stored"), [(7e4, "float16"), (float("nan"), "int8"), (float("-inf"), "float32")])
def test_a_value_that_does_not_fit_is_named_with_its_region(value: float, stored: vectors.Stored) -> None:
    vectors_RD = np.zeros((3, 4))
    assert vectors.unfit(vectors_RD, stored) is None
    vectors_RD[2, 1] = value
    assert f"region 2 has {value:g} at place 1" in (vectors.unfit(vectors_RD, stored) or "")


@pytest.mark.parametrize("stored", ["float32", "int8"])
def test_features_are_stored_as_asked_and_the_file_says_how(stored: vectors.Stored) -> None:
    joined, _ = shards.process(*tables([1, 2], feature=0.5), Config(features=stored))
    dtype = joined.schema.metadata[b"feature_dtype"].decode()
    for row in joined.to_pylist():
        back = vectors.unpack(row["features"], row["feature_scales"], row["num_regions"], dtype)
        np.testing.assert_allclose(back, 0.5, rtol=1e-6)


def test_patches_are_joined_where_they_are_asked_for_and_the_file_says_so() -> None:
    one, two = [np.full((4, 3), 0.5)] * 2, [np.full((4, 4), 2.0)] * 2
    notes = {"patch_count": "4", "patch_width": "3", "pyramid_count": "0", "detector": "not the regions'"}
    patches = PATCHES.table(image_id=[image(2), image(9)], patch_boxes=two, patch_features=one, metadata=notes)
    config = Config(patches=True)
    joined, rejects = shards.process(*tables([1, 2]), patches, config)
    assert joined["image_id"].to_pylist() == [image(2)]
    assert "patches" in rejects["detail"][0].as_py()
    assert np.frombuffer(joined["patch_features"][0].as_py(), "<f2").tolist() == [0.5] * 12
    assert joined["pyramid_features"].null_count == 1
    told = joined.schema.metadata
    assert (told[b"patch_count"], told[b"pyramid_count"]) == (b"4", b"0")
    assert b"detector" not in told
    assert shards.inputs(config) == (*shards.INPUTS, "patches")
    without, _ = shards.process(*tables([1]), Config())
    assert without["patch_features"].null_count == 1
    assert b"patch_count" not in without.schema.metadata


def test_similar_captions_are_joined_where_they_are_asked_for_and_the_file_says_so() -> None:
    one = {"image_id": image(9), "caption_index": 0, "text": "b", "similarity": 0.75}
    similar = SIMILAR.table(
        image_id=[image(2), image(1)], similar=[[[one]], [[]]], metadata={"similar_top_k": "3", "shard": "00000"}
    )
    config = Config(similar=True)
    joined, rejects = shards.process(*tables([1, 2, 3]), similar, config)
    assert joined["similar"].to_pylist() == [[[]], [[one]]]
    assert [row["key"] for row in rejects.to_pylist()] == [image(3).hex()]
    assert joined.schema.metadata[b"similar_top_k"] == b"3"
    assert shards.inputs(config) == (*shards.INPUTS, "similar")
    without, _ = shards.process(*tables([1]), Config())
    assert without["similar"].null_count == 1
    assert b"similar_top_k" not in without.schema.metadata


def test_neighbours_are_joined_where_they_are_asked_for_and_the_loader_and_lint_read_them(tmp_path: Path) -> None:
    one = {"image_id": image(9), "similarity": 0.75, "num_regions": 2}
    found = NEIGHBOURS.table(
        image_id=[image(2), image(1)], neighbours=[[one], []], neighbour_regions=[2, 0],
        neighbour_boxes=[np.full((2, 4), 0.5), np.zeros((0, 4))],
        neighbour_features=[np.arange(6).reshape(2, 3), np.zeros((0, 3))],
        metadata={"neighbour_top_k": "1", "neighbour_width": "3"},
    )  # fmt: skip
    config = Config(neighbours=True)
    joined, rejects = shards.process(*tables([1, 2, 3]), found, config)
    assert joined["neighbours"].to_pylist() == [[], [one]]
    assert "neighbours" in rejects["detail"][0].as_py()
    folder = write_table(tmp_path / "shards", SHARDS, {"train-00000": joined}, indexed=True)
    batch = next(iter(Loader(folder, columns=("neighbour_features", "neighbour_regions"), batch_size=2)))
    rows = [
        features[: int(count)]
        for features, count in zip(batch["neighbour_features"], batch["neighbour_regions"], strict=True)
    ]
    assert sorted(row.tolist() for row in rows) == [[], [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]]
    assert not [problem for problem in lint(folder, FLOW) if "neighbour" in problem.what]
    bare, _ = shards.process(*tables([1]), Config())
    plain = write_table(tmp_path / "plain", SHARDS, {"train-00000": bare}, indexed=True)
    with pytest.raises(MissingColumnsError, match="lack the columns neighbour_features"):
        Loader(plain, columns=("neighbour_features",), batch_size=1)


SWITCHED = ("regions", "tags", "negatives")


@pytest.mark.parametrize("stored", ["float16", "int8"])
@given(off=st.sets(st.sampled_from(SWITCHED), min_size=1), captions=st.lists(st.integers(0, 3), min_size=1, max_size=4))
def test_a_table_that_is_left_out_leaves_all_other_columns_as_they_are(
    stored: vectors.Stored, off: set[str], captions: list[int]
) -> None:
    numbers = list(range(1, len(captions) + 1))
    pairs, regions, tags, negatives = tables(numbers)
    texts = [[{"text": "a", "original": "a", "lang": None}] * count for count in captions]
    at = pairs.column_names.index("captions")
    pairs = pairs.set_column(at, pairs.field(at), pa.array(texts, pairs.field(at).type))
    of = {"curate": pairs, "regions": regions, "tags": tags, "negatives": negatives}
    config = build(Config, {"features": stored, **dict.fromkeys(off, False)}, "params.yaml")
    joined, rejects = shards.process(*(of[name] for name in shards.inputs(config)), config)
    every, _ = shards.process(*of.values(), Config(features=stored))
    empty = left_out_columns({key.decode(): value.decode() for key, value in joined.schema.metadata.items()})
    assert empty >= {{"regions": "features", "tags": "tags", "negatives": "negatives"}[name] for name in off}
    assert rejects.num_rows == 0
    for name in joined.column_names:
        if name not in empty | {"feature_scales"}:
            assert joined[name].equals(every[name]), name
    if "regions" in off:
        assert joined["num_regions"].to_pylist() == [0] * len(captions)
        assert "tags" in empty  # which are those of regions
    if "negatives" in off:
        assert joined["negatives"].to_pylist() == [[[]] * count for count in captions]
        assert joined["short"].to_pylist() == [[0] * count for count in captions]


def test_the_loader_refuses_what_was_left_out_and_lint_finds_nothing_wrong(tmp_path: Path) -> None:
    config = Config(regions=False, negatives=False)
    joined, _ = shards.process(tables([1, 2])[0], config)
    folder = write_table(tmp_path / "shards", SHARDS, {"train-00000": joined}, indexed=True)
    batch = next(iter(Loader(folder, columns=("captions",), batch_size=2)))
    assert batch.texts == ("a", "a")
    for column in ("boxes", "tags", "negatives"):
        with pytest.raises(MissingColumnsError, match=f"lack the columns {column}"):
            Loader(folder, columns=(column,), batch_size=2)
    about = [problem for problem in lint(folder, FLOW) if "region" in str(problem) or "short" in str(problem)]
    assert not about


@pytest.mark.parametrize(
    ("settings", "stages"),
    [
        ({}, ("download", "curate", "regions", "tags", "negatives", "shards")),
        ({"negatives": False}, ("download", "curate", "regions", "tags", "shards")),
        ({"regions": False, "negatives": False}, ("download", "curate", "shards")),
    ],
)
def test_a_stage_whose_table_is_left_out_does_not_run(settings: dict[str, bool], stages: tuple[str, ...]) -> None:
    params = Params({"shards": settings}, "params.yaml")
    assert wanted(params.of_stage) == stages
