"""Report, lint and card say in one line that regions of the starter are only a demo. Others have no such line."""

from __future__ import annotations

from pathlib import Path

from inspection.lint import examine
from inspection.report import write_report
from inspection.starter import starter_note, starter_notes
from pairloom.store.folder import open_folder
from pipeline.card import describe, markdown
from tests.inspection.synthetic import FLOW, rewrite

NOTE = "starter: 6 classes, trained on drawings; for real work add a published detector"


def test_the_note_is_of_the_starter_alone() -> None:
    assert starter_note({"detector": "starter", "classes": '["a", "b"]'}).startswith("starter: 2 classes")
    assert starter_note({"detector": "butd", "classes": "[]"}) == ""
    assert starter_note({}) == ""


def test_report_lint_and_card_say_it(good: Path, tmp_path: Path) -> None:
    write_report(good, tmp_path / "page.html", FLOW)
    assert (tmp_path / "page.html").read_text(encoding="utf-8").count(NOTE) == 1
    assert NOTE in examine(good, FLOW).notes
    facts = describe(open_folder(good / "shards"))
    assert facts["notes"] == [NOTE]
    assert NOTE in markdown(facts).splitlines()


def test_another_detector_has_no_such_line(data: Path) -> None:
    for table, shards in (("regions", ("00000", "00001")), ("shards", ("train-00000", "val-00000"))):
        for name in shards:
            rewrite(data / table, name, lambda rows: rows.replace_schema_metadata(
                {**rows.schema.metadata, b"detector": b"butd"}))  # fmt: skip
    folders = [open_folder(data / table) for table in ("regions", "shards")]
    assert starter_notes(folders) == []
    assert "notes" in describe(folders[1])
    assert describe(folders[1])["notes"] == []


def test_a_damaged_file_is_not_read_for_it(data: Path) -> None:
    (data / "regions" / "00000.parquet").write_bytes(b"PAR1")
    assert starter_notes([open_folder(data / "regions")], sound=set()) == []
    assert examine(data, FLOW).problems
