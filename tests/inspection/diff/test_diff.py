"""`pairloom diff` finds what was changed, and nothing where nothing was. Rows by brute force over dictionaries."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inspection.diff import diff, diff_text, rows_to_compare, shards
from pairloom.errors import InputError, StoreError
from pairloom.store.folder import open_folder
from pairloom.store.writing import Writer
from pipeline.cli import main
from schemas.urls import URLS
from tests.building import write_table
from tests.inspection.synthetic import FLOW, edit, edit_blob, rewrite

Row = dict[str, Any]
TEXTS = st.sampled_from(["a cat", "a dog", ""])
ROW = st.tuples(st.integers(0, 12), st.lists(TEXTS, max_size=2), st.sampled_from([None, "here"]))


def table_of(data: Path, other: Path, name: str) -> Row:
    facts = diff(data, other, FLOW)
    return next(table for table in facts["tables"] if table["name"] == name)


@pytest.fixture
def other(good: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "other"))


def test_a_copy_is_equal_and_its_shards_are_not_read(good: Path, other: Path) -> None:
    for file in other.rglob("*.parquet"):
        file.unlink()
    facts = diff(good, other, FLOW)
    assert facts["equal"]
    assert rows_to_compare(good, other, FLOW) == 0
    assert "nothing differs" in diff_text(facts)


def test_a_changed_caption_is_one_changed_row(good: Path, other: Path) -> None:
    rewrite(other / "curate", "00000", edit("captions", 3, lambda found: [found[0] | {"text": "new"}, *found[1:]]))
    key = open_folder(good / "curate").read("00000", ["image_id"])["image_id"][3].as_py().hex()
    table = table_of(good, other, "curate")
    assert (table["equal_rows"], table["changed"], table["moved"]) == (17, 1, 0)
    assert table["columns"] == {"captions": {"rows": 1, "largest": 0.0}}
    assert table["examples"] == {"changed": [key], "only_a": [], "only_b": []}
    assert key in diff_text(diff(good, other, FLOW))


def test_rows_that_went_and_came(good: Path, other: Path) -> None:
    rewrite(other / "tags", "00001", lambda rows: rows.slice(2))
    assert [table_of(good, other, "tags")[key] for key in ("only_a", "only_b")] == [2, 0]
    assert [table_of(other, good, "tags")[key] for key in ("only_a", "only_b")] == [0, 2]


def test_a_number_within_the_tolerance_is_equal(good: Path, other: Path) -> None:
    rewrite(other / "regions", "00000", edit_blob("class_scores", 0, "<f4", 0, 0.9005))
    exact, near = (diff(good / "regions", other / "regions", FLOW, tolerance) for tolerance in (0, 1e-3))
    assert exact["tables"][0]["columns"]["class_scores"] == {"rows": 1, "largest": pytest.approx(0.0005, rel=1e-3)}
    assert not exact["equal"]
    assert near["equal"]


def test_a_box_that_moved(good: Path, other: Path) -> None:
    rewrite(other / "regions", "00000", edit_blob("boxes", 2, "<f4", 2, 90))
    boxes = table_of(good, other, "regions")["boxes"]
    assert (boxes["images"], boxes["equal"], boxes["moved"] + boxes["only_a"]) == (1, 1, 1)


def test_negatives_and_vocabulary(good: Path, other: Path) -> None:
    rewrite(other / "negatives", "00000", edit("negatives", 0, lambda lists: [lists[0][::-1], *lists[1:]]))

    def rename(table: Any) -> Any:
        names = json.loads(table.schema.metadata[b"classes"])
        return table.replace_schema_metadata(
            {**table.schema.metadata, b"classes": json.dumps([*names[1:], "dog"]).encode()}
        )

    rewrite(other / "regions", "00000", rename)
    lists = table_of(good, other, "negatives")["negatives"]
    assert (lists["lists"], lists["equal"], lists["shared"]) == (72, 71, 144)
    vocabulary = table_of(good, other, "regions")["vocabularies"]["classes"]
    assert (vocabulary["only_a"], vocabulary["only_b"], vocabulary["renumbered"]) == (1, 1, 5)
    text = diff_text(diff(good, other, FLOW))
    assert "98.6% of 72 lists are equal" in text
    assert "1 only in A, 1 only in B, 5 with another number" in text


def test_settings_versions_and_reasons(good: Path, other: Path) -> None:
    folder = open_folder(other / "curate")
    header = replace(
        folder.header, config={**folder.header.config, "top_k": 5, "dedup": {"distance": 4}}, stage_version=2
    )
    writer = Writer.open(folder.path, header)
    writer.begin([])
    for entry in folder.shards:
        writer.record(replace(entry, rejected={"caption-length": 7}))
    writer.finish()
    table = table_of(good, other, "curate")
    assert table["settings"] == {"top_k": [3, 5], "dedup.distance": [None, 4]}
    assert table["made_by"] == {"stage_version": [1, 2]}
    assert table["left_out"] == {"caption-length": [2, 14], "caption-dropped": [1, None], "caption-lost": [1, None]}
    assert table["equal_rows"] == 18
    assert not table["equal"]


def test_what_was_left_out_for_another_reason(good: Path, other: Path) -> None:
    rewrite(other / "quarantine" / "download", "00000", edit("reason", 0, lambda _: "dns"))
    table = table_of(good, other, "quarantine/download")
    assert (table["changed"], table["columns"]) == (1, {"reason": {"rows": 1, "largest": 0.0}})
    assert table["examples"]["changed"] == ["http://sample.invalid/gone-00000.jpg"]


def test_a_table_of_one_side_alone(good: Path, other: Path) -> None:
    shutil.rmtree(other / "tags")
    facts = diff(good, other, FLOW)
    assert (facts["only_a"], facts["only_b"], facts["equal"]) == (["tags"], [], False)


def test_what_cannot_be_compared_is_said(good: Path, other: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="one is a table of tags, the other of regions"):
        diff(good / "tags", good / "regions", FLOW)
    with pytest.raises(InputError, match="one is a table and the other a whole dataset"):
        diff(good / "tags", good, FLOW)
    with pytest.raises(StoreError, match="no table here"):
        diff(good, tmp_path / "nothing", FLOW)
    rewrite(other / "tags", "00000", lambda rows: rows.slice(1))
    (other / "tags" / "00001.parquet").write_bytes(b"PAR1")
    rewritten = open_folder(other / "tags")
    writer = Writer.open(rewritten.path, rewritten.header)
    writer.begin([])
    for entry in rewritten.shards:
        writer.record(replace(entry, sha256="0" * 64))
    writer.finish()
    with pytest.raises(StoreError, match="damaged"):
        diff(good, other, FLOW)


def test_the_command_exits_with_1_on_a_difference(good: Path, other: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", str(good), str(other), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["equal"] is True
    rewrite(other / "tags", "00000", lambda rows: rows.slice(1))
    assert main(["diff", str(good), str(other)]) == 1
    assert "1 only in A" in capsys.readouterr().out


def write_urls(folder: Path, rows: Sequence[Sequence[Row]]) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    tables = {
        f"{number:05d}": URLS.table(
            url=[row["url"] for row in part],
            captions=[row["captions"] for row in part],
            source=[row["source"] for row in part],
            extra=[[]] * len(part),
        )
        for number, part in enumerate(rows)
    }
    return write_table(folder, URLS, tables, "sample")


def cut(rows: list[Row], size: int) -> list[list[Row]]:
    return [rows[start : start + size] for start in range(0, len(rows), size)] or [[]]


def as_rows(drawn: list[Any]) -> list[Row]:
    return [
        {"url": f"http://h/{number}", "captions": [{"text": text, "lang": None} for text in texts], "source": source}
        for number, texts, source in drawn
    ]


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_rows_by_brute_force_however_they_are_cut(
    data: st.DataObject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two lists cut into shards of different sizes, with rows in another order: partners lie anywhere."""
    monkeypatch.setattr(shards, "PART_ROWS", 3)  # several parts of what waits, for tables this small
    drawn = [data.draw(st.lists(ROW, max_size=12, unique_by=lambda row: row[0])) for _ in range(2)]
    some, others = (as_rows(rows) for rows in drawn)
    folders = [
        write_urls(tmp_path / name, cut(rows, data.draw(st.integers(1, 5))))
        for name, rows in (("a", some), ("b", others))
    ]
    table = diff(folders[0], folders[1], FLOW)["tables"][0]
    mine, theirs = ({row["url"]: row for row in rows} for rows in (some, others))
    both = mine.keys() & theirs.keys()
    changed = {url for url in both if mine[url] != theirs[url]}
    if table["equal"]:
        assert some == others
        return
    assert table["changed"] == len(changed)
    assert table["equal_rows"] == len(both) - len(changed)
    assert table["only_a"] == len(mine) - len(both)
    assert table["only_b"] == len(theirs) - len(both)
    for column in ("captions", "source"):
        wanted = sum(mine[url][column] != theirs[url][column] for url in both)
        assert table["columns"].get(column, {"rows": 0})["rows"] == wanted
    assert set(table["examples"]["only_a"]) <= mine.keys() - both
    assert set(table["examples"]["changed"]) <= changed
    assert table["moved"] > 0 or [url for url in mine if url in both] == [url for url in theirs if url in both]
