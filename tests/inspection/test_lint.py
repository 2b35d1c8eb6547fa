"""A good dataset has no problem. Spoilt in one way, it has just the problems of that way, with file, row and cure."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from inspection.lint import Problem, lint, lint_text, told
from inspection.lint.problem import SHOWN, Findings
from inspection.lint.shard import Shard
from inspection.lint.values import RULES
from inspection.tables import column_names, names
from pairloom.errors import StoreError
from pairloom.store.folder import JOURNAL, MANIFEST, open_folder
from schemas.similar import SIMILAR
from tests.inspection.synthetic import FLOW, edit, edit_blob, rewrite

PLACES = 100  # flipped bits
ALIGNED = [stage for stage in FLOW.stages if not FLOW.recut(stage)]


def checks(problems: list[Problem]) -> set[str]:
    return {problem.check for problem in problems}


def test_a_good_dataset_and_each_of_its_tables_has_no_problem(good: Path) -> None:
    for path in (good, *(good / stage for stage in FLOW.order())):
        assert lint(path, FLOW) == []
    assert lint(good / "quarantine" / "curate", FLOW) == []


def test_a_folder_without_tables_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no table here"):
        lint(tmp_path, FLOW)


def test_a_flipped_bit_is_found_wherever_it_is(data: Path) -> None:
    files = sorted(data.rglob("*.parquet"))
    files = [file for file in files if file.name != "truth.parquet"]  # no table folder, no manifest
    random = np.random.default_rng(0)
    for _ in range(PLACES):
        file = files[random.integers(len(files))]
        good = file.read_bytes()
        spoilt = bytearray(good)
        spoilt[random.integers(len(spoilt))] ^= 1 << int(random.integers(8))
        file.write_bytes(spoilt)
        problems = lint(file.parent, FLOW)
        assert [(problem.check, problem.file) for problem in problems] == [("checksum", str(file))]
        assert "run `pairloom stage" in problems[0].fix
        file.write_bytes(good)
    assert lint(data, FLOW) == []


def test_a_flipped_bit_does_not_stop_the_check_of_the_other_tables(data: Path) -> None:
    file = data / "curate" / "00001.parquet"
    spoilt = bytearray(file.read_bytes())
    spoilt[1000] ^= 1
    file.write_bytes(spoilt)
    (data / "tags" / "00000.parquet").unlink()
    assert {(problem.check, Path(problem.file).parent.name) for problem in lint(data, FLOW)} == {
        ("checksum", "curate"),
        ("missing", "tags"),
    }


def test_a_missing_shard_a_leftover_and_a_cut_file_are_found(data: Path) -> None:
    (data / "negatives" / "00001.parquet").unlink()
    shutil.copy(data / "tags" / "00000.parquet", data / "tags" / "00007.parquet")
    (data / "regions" / ".00000.0123.tmp").write_bytes(b"half a shard")
    file = data / "shards" / "val-00000.parquet"
    file.write_bytes(file.read_bytes()[:-100])
    problems = {(problem.check, Path(problem.file).name) for problem in lint(data, FLOW)}
    assert problems == {
        ("missing", "00001.parquet"),
        ("leftover", "00007.parquet"),
        ("leftover", ".00000.0123.tmp"),
        ("checksum", "val-00000.parquet"),
    }


@pytest.mark.parametrize("content", ["{", "[]", '{"table": "tags"}', '{"shards": [{"nam": 1}]}', ""])
def test_a_broken_manifest_is_a_problem_not_a_crash(data: Path, content: str) -> None:
    (data / "tags" / MANIFEST).write_text(content)
    assert {(problem.check, Path(problem.file).name) for problem in lint(data, FLOW)} == {("manifest", "tags")}


def test_an_interrupted_table_is_a_problem(data: Path) -> None:
    manifest = json.loads((data / "tags" / MANIFEST).read_text())
    shards = manifest.pop("shards")
    (data / "tags" / JOURNAL).write_text("\n".join([json.dumps(manifest), json.dumps(shards[0]), '{"half a li']))
    found = lint(data / "tags", FLOW)
    assert [(problem.check, Path(problem.file).name) for problem in found] == [
        ("unfinished", "tags"),
        ("leftover", "00001.parquet"),
    ]


def _manifest(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        content = json.loads((folder / MANIFEST).read_text())
        change(content)
        (folder / MANIFEST).write_text(json.dumps(content))

    return apply


@pytest.mark.parametrize(
    ("check", "change"),
    [
        ("rows", lambda manifest: manifest["shards"][0].update(rows=3)),
        ("checksum", lambda manifest: manifest["shards"][0].update(sha256="0" * 64)),
        ("version", lambda manifest: manifest.update(table_version=99)),
        ("schema", lambda manifest: manifest.update(table="nonsense")),
        ("schema", lambda manifest: manifest.update(table="tags", table_version=2)),
        ("provenance", lambda manifest: manifest["config"].update(top_k=4)),
        ("provenance", lambda manifest: manifest.update(stage_version=7)),
    ],
)
def test_a_manifest_that_does_not_fit_its_files_is_found(data: Path, check: str, change: Callable[[Any], Any]) -> None:
    _manifest(change)(data / "curate")
    assert checks(lint(data / "curate", FLOW)) == {check}


def _swap(table: pa.Table) -> pa.Table:
    order = list(range(table.num_rows))
    order[2], order[5] = order[5], order[2]
    return table.take(order)


@pytest.mark.parametrize("stage", ALIGNED)
def test_a_row_out_of_order_is_found_with_file_and_row(data: Path, stage: str) -> None:
    rewrite(data / stage, "00001", _swap)
    problem = next(problem for problem in lint(data, FLOW) if Path(problem.file).parent.name == stage)
    assert (problem.check, problem.row) == ("alignment", 3)  # the row after the one that came too early
    assert "out of order" in problem.what


@pytest.mark.parametrize("stage", ALIGNED)
def test_a_row_that_is_lost_is_found(data: Path, stage: str) -> None:
    rewrite(data / stage, "00001", lambda table: table.slice(1))
    found = [problem for problem in lint(data, FLOW) if Path(problem.file).parent.name == stage]
    assert {"count", "lost"} <= checks(found)


def test_a_row_that_is_lost_from_the_shards_is_found(data: Path) -> None:
    image_id = open_folder(data / "shards").read("val-00000")["image_id"][0].as_py().hex()
    rewrite(data / "shards", "val-00000", lambda table: table.slice(1))
    lost = next(problem for problem in lint(data, FLOW) if problem.check == "lost")
    assert image_id in lost.what


def test_a_row_that_is_there_twice_is_found(data: Path) -> None:
    rewrite(data / "shards", "val-00000", lambda table: pa.concat_tables([table, table.slice(0, 1)]))
    found = lint(data / "shards", FLOW)
    assert [(problem.check, problem.row) for problem in found] == [("duplicate", 4)]


@pytest.mark.parametrize("stage", [stage for stage in ALIGNED if FLOW.distinct(stage)])
def test_an_image_twice_is_found_in_every_table_that_has_it_once(data: Path, stage: str) -> None:
    rewrite(data / stage, "00001", lambda table: pa.concat_tables([table, table.slice(0, 1)]))
    assert checks(lint(data / stage, FLOW)) == {"duplicate"}


@pytest.mark.parametrize("stage", ALIGNED)
def test_a_shard_that_only_the_input_has_is_found(data: Path, stage: str) -> None:
    manifest = json.loads((data / stage / MANIFEST).read_text())
    manifest["shards"] = [entry for entry in manifest["shards"] if entry["name"] != "00001"]
    (data / stage / MANIFEST).write_text(json.dumps(manifest))
    (data / stage / "00001.parquet").unlink()
    missing = [problem for problem in lint(data, FLOW) if problem.check == "missing"]
    assert [Path(problem.file).parent.name for problem in missing] == [stage]


def test_an_image_may_have_regions_once_from_each_source(data: Path) -> None:
    def again(source: str) -> Callable[[pa.Table], pa.Table]:
        def add(table: pa.Table) -> pa.Table:
            first = table.slice(0, 1)
            place = first.schema.get_field_index("source")
            return pa.concat_tables([table, first.set_column(place, first.schema.field(place), [[source]])])

        return add

    name = open_folder(data / "regions").shards[0].name
    rewrite(data / "regions", name, again("copies/one.jpg"))
    assert lint(data / "regions", FLOW) == []
    rewrite(data / "regions", name, again("copies/one.jpg"))
    assert checks(lint(data / "regions", FLOW)) == {"duplicate"}


def test_every_rule_is_of_columns_that_a_table_has() -> None:
    tables = [set(column_names(name)) for name in names()]
    for rule, needed in RULES:
        assert any(there.issuperset(needed) for there in tables), rule


def test_a_row_missing_from_the_quarantine_is_found(data: Path) -> None:
    rewrite(data / "quarantine" / "curate", "00000", lambda table: table.slice(1))
    assert {"count", "lost"} == checks(lint(data, FLOW))


def _told(column: str, **changes: Any) -> Callable[[pa.Table], pa.Table]:
    """One of the captions of others that the column has for the second caption of row 3, changed."""

    def change(lists: list[list[dict[str, Any]]]) -> list[list[dict[str, Any]]]:
        lists[1][1].update(changes)
        return lists

    return edit(column, 3, change)


_negative, _alike = partial(_told, "negatives"), partial(_told, "similar")


def _one_list_less(table: pa.Table) -> pa.Table:
    for column in ("negatives", "short"):
        table = edit(column, 3, lambda lists: lists[:-1])(table)
    return table


def _first(**changes: Any) -> Callable[[list[dict[str, Any]]], list[dict[str, Any]]]:
    def change(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
        items[0].update(changes)
        return items

    return change


def _too_similar(lists: list[list[dict[str, Any]]]) -> list[list[dict[str, Any]]]:
    return [[lists[0][0] | {"similarity": 1.5}], *lists[1:]]


def _flip(image: bytes) -> bytes:
    return image[:-9] + bytes([image[-9] ^ 1]) + image[-8:]


ANSWERS = [{"text": "a", "score": 1.5}, {"text": "b", "score": 1.6}]
SPOILT: dict[str, tuple[str, str, Callable[[pa.Table], pa.Table]]] = {
    # what → (stage, the check that finds it, the change in row 3 of its first shard)
    "NaN in a box": ("regions", "not-finite", edit_blob("boxes", 3, "<f4", 2, np.nan)),
    "infinite feature": ("regions", "not-finite", edit_blob("features", 3, "<f2", 5, np.inf)),
    "NaN score": ("regions", "not-finite", edit_blob("class_scores", 3, "<f4", 1, np.nan)),
    "box outside the image": ("regions", "box", edit_blob("boxes", 3, "<f4", 2, 161)),
    "box outside the image of a training row": ("shards", "box", edit_blob("boxes", 3, "<f4", 3, 2000)),
    "box with x2 < x1": ("regions", "box", edit_blob("boxes", 3, "<f4", 0, 159)),
    "negative corner": ("regions", "box", edit_blob("boxes", 3, "<f4", 1, -1)),
    "worse region first": ("regions", "order", edit_blob("class_scores", 3, "<f4", 1, 0.95)),
    "score above 1": ("regions", "range", edit_blob("class_scores", 3, "<f4", 0, 1.5)),
    "attribute score below 0": ("regions", "range", edit_blob("attribute_scores", 3, "<f4", 0, -0.1)),
    "class without a name": ("regions", "vocabulary", edit_blob("class_ids", 3, "<u2", 1, 6)),
    "attribute without a name": ("regions", "vocabulary", edit_blob("attribute_ids", 3, "<u2", 0, 4)),
    "probability of a class without a name": ("shards", "vocabulary", edit_blob("prob_ids", 3, "<u2", 1, 6)),
    "probabilities not sorted": ("regions", "order", edit_blob("prob_values", 3, "<f2", 1, 0.95)),
    "blob too short": ("regions", "blob-length", edit("features", 3, lambda blob: blob[:-2])),
    "more regions than boxes": ("regions", "blob-length", edit("num_regions", 3, lambda count: count + 1)),
    "tag of a region that is not there": ("tags", "reference", edit("tags", 3, _first(region=9))),
    "tag with another class than its region": ("tags", "reference", edit("tags", 3, _first(class_id=1))),
    "tag of a missing region in a training row": ("shards", "reference", edit("tags", 3, _first(region=9))),
    "tag score not a number": ("tags", "not-finite", edit("tags", 3, _first(score=float("nan")))),
    "worse tag first": ("tags", "order", edit("tags", 3, _first(score=0.1))),
    "empty tag": ("tags", "empty", edit("tags", 3, _first(text=""))),
    "negative of an image that is not there": ("negatives", "reference", _negative(image_id=b"0123456789abcdef")),
    "negative of a caption that is not there": ("negatives", "reference", _negative(caption_index=77)),
    "negative with another text": ("negatives", "reference", _negative(text="not that caption")),
    "negative in a training row of no image": ("shards", "reference", _negative(image_id=b"0123456789abcde\0")),
    "similarity not a number": ("negatives", "not-finite", _negative(similarity=float("nan"))),
    "similarity rises": ("negatives", "order", _negative(similarity=0.45)),
    "similarity above 1": ("negatives", "range", edit("negatives", 3, _too_similar)),
    "a caption without its list of negatives": ("negatives", "length", edit("negatives", 3, lambda lists: lists[:-1])),
    "no caption": ("curate", "empty", edit("captions", 3, lambda _: [])),
    "empty caption": ("curate", "empty", edit("captions", 3, _first(text=""))),
    "picture with one bit changed": ("curate", "image-id", edit("image", 3, _flip)),
    "width that is not the picture's": ("curate", "image", edit("width", 3, lambda width: width + 1)),
    "format that is not the picture's": ("shards", "image", edit("format", 3, lambda _: "png")),
    "no split of that name": ("shards", "split", edit("split", 3, lambda _: "val")),
    "box of a patch outside the image": ("patches", "box", edit_blob("patch_boxes", 3, "<f4", 2, 170)),
    "patch that is not a number": ("patches", "not-finite", edit_blob("patch_features", 3, "<f2", 1, np.nan)),
    "question without text": ("qa", "empty", edit("qa", 3, _first(text=""))),
    "worse answer first": ("qa", "order", edit("qa", 3, _first(answers=ANSWERS))),
    "answer more than right": ("qa", "range", edit("qa", 3, _first(answers=ANSWERS[:1]))),
    "similar caption of no image": ("similar", "reference", _alike(image_id=b"0123456789abcdef")),
    "similar caption that is not there": ("similar", "reference", _alike(caption_index=77)),
    "similar caption with another text": ("similar", "reference", _alike(text="not that caption")),
    "a caption without its similar ones": ("similar", "length", edit("similar", 3, lambda lists: lists[:-1])),
    "a caption without its lists of negatives": ("negatives", "length", _one_list_less),
    "url without text": ("urls", "empty", edit("url", 3, lambda _: "")),
}  # fmt: skip


@pytest.mark.parametrize("what", SPOILT)
def test_a_wrong_value_is_found_with_file_and_row(data: Path, what: str) -> None:
    stage, check, change = SPOILT[what]
    name = "train-00000" if stage == "shards" else "00000"
    rewrite(data / stage, name, change)
    problems = [problem for problem in lint(data, FLOW) if problem.check == check]
    assert (str(data / stage / f"{name}.parquet"), 3) in {(problem.file, problem.row) for problem in problems}
    assert all(problem.fix for problem in problems)


@pytest.mark.parametrize(
    ("check", "change"),
    [
        ("reason", edit("reason", 0, lambda _: "bad luck")),
        ("reference", edit("stage", 0, lambda _: "tags")),
        ("range", edit("attempts", 0, lambda _: 0)),
        ("json", edit("row", 0, lambda _: "{")),
    ],
)
def test_a_wrong_value_in_the_quarantine_is_found(
    data: Path, check: str, change: Callable[[pa.Table], pa.Table]
) -> None:
    rewrite(data / "quarantine" / "curate", "00000", change)
    assert [(problem.check, problem.row) for problem in lint(data / "quarantine" / "curate", FLOW)] == [(check, 0)]


def test_metadata_without_the_vocabulary_is_found(data: Path) -> None:
    rewrite(
        data / "regions",
        "00000",
        lambda table: table.replace_schema_metadata({"feature_width": "4", "prob_width": "3"}),
    )
    assert checks(lint(data / "regions", FLOW)) == {"metadata"}
    rewrite(data / "regions", "00000", lambda table: table.replace_schema_metadata({"feature_width": "four"}))
    assert checks(lint(data / "regions", FLOW)) == {"metadata"}


def test_many_problems_of_a_kind_are_shown_as_a_few_and_a_count(data: Path) -> None:
    def nameless(table: pa.Table) -> pa.Table:
        for row in range(table.num_rows):
            table = edit("captions", row, lambda captions: [caption | {"text": ""} for caption in captions])(table)
        return table

    rewrite(data / "curate", "00000", nameless)
    problems = [problem for problem in lint(data / "curate", FLOW) if problem.check == "empty"]
    assert [problem.row for problem in problems] == list(range(SHOWN))
    assert "4 more rows" in problems[-1].what


def test_a_problem_is_printed_with_file_row_value_and_cure(data: Path) -> None:
    rewrite(data / "regions", "00000", edit_blob("attribute_ids", 3, "<u2", 1, 600))
    text = lint_text(lint(data / "regions", FLOW))
    assert "00000.parquet row 3: attribute_ids has 600, but there are only 4 attributes" in text
    assert (
        f"fix: delete {data}/regions/00000.parquet if it is there and run `pairloom stage regions --data {data}`"
        in text
    )
    assert text.endswith("1 problem found")
    assert lint_text([]) == "no problem found"


def test_similar_captions_are_held_to_their_own_rules() -> None:
    """As many lists as captions, none of the image itself, best first. Above 1 is no fault, for BM25 may be."""
    mine, other = b"m" * 16, b"o" * 16

    def found(lists: list[list[tuple[bytes, float]]], captions: int) -> list[str]:
        others = [
            [{"image_id": i, "caption_index": n, "text": "a", "similarity": s} for n, (i, s) in enumerate(one)]
            for one in lists
        ]
        table = SIMILAR.table(image_id=[mine], similar=[others])
        table = table.append_column("captions", pa.array([["a"] * captions]))
        findings = Findings()
        told.check_similar(Shard(Path("similar/00000.parquet"), table, {}, findings))
        return [problem.check for problem in findings.problems]

    assert found([[(other, 1.2), (other, 0.6)], []], 2) == []
    assert found([[(mine, 0.6)], []], 2) == ["reference"]
    assert found([[(other, 0.6), (other, 0.7)]], 1) == ["order"]
    assert found([[(other, -0.1)]], 1) == ["range"]
    assert found([[]], 2) == ["length"]
