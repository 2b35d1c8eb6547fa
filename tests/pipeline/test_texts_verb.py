"""`pairloom texts`: lists of any format, packed, in folders and through fsspec, become one table."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import fsspec
import pytest

from pairloom.store.folder import open_folder
from pipeline.cli import main


def test_packed_lists_folders_and_paths_of_fsspec_become_one_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [("en", "a dog, running"), ("", "two\nlines"), ("de", ""), ("ja", "犬がいる")]
    with (tmp_path / "a.tsv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter="\t").writerows([("lang", "text"), *rows])
    system = fsspec.filesystem("memory")
    system.pipe("/texts/b.tsv.gz", gzip.compress((tmp_path / "a.tsv").read_bytes()))
    system.pipe("/texts/c.txt", b"last line")
    try:
        assert main(["texts", str(tmp_path / "a.tsv"), "memory://texts", "--out", str(tmp_path / "out")]) == 0
    finally:
        system.rm("/texts", recursive=True)
    kept = [(text, lang or None) for lang, text in rows if text]
    table = open_folder(tmp_path / "out").read("00000")
    assert table.to_pylist() == [{"text": text, "lang": lang} for text, lang in [*kept, *kept, ("last line", None)]]
    assert "7 texts, 2 empty ones left out" in capsys.readouterr().out


def test_a_missing_list_stops_the_run_before_any_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.txt").write_text("one\n", encoding="utf-8")
    assert main(["texts", str(tmp_path / "a.txt"), "s3-nowhere://b/c.csv", "--out", str(tmp_path / "out")]) == 1
    assert main(["texts", str(tmp_path / "a.txt"), str(tmp_path / "none.csv"), "--out", str(tmp_path / "out")]) == 1
    assert "none.csv" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
