"""`pairloom download` and `curate` write a dataset that every later command takes."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from inspection.lint import lint
from pairloom import open_table
from pipeline.cli import main
from pipeline.verbs.common import bold
from tests.inspection.synthetic import FLOW
from tests.serving import pictures, write_list

ROWS = 4


def test_what_they_write_is_a_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # there is no params.yaml here
    quiet = ["--cluster", "inline", "--quiet"]
    with pictures(tmp_path / "www", ROWS) as host:
        write_list(Path("my.csv"), host, range(ROWS + 1))
        assert main(["download", "my.csv", "--out", "own", "--allow-host", host, *quiet]) == 0
        assert main(["curate", "own", "--out", "own", "--profile", "none", *quiet]) == 0
    for stage in ("regions", "tags", "negatives", "shards"):
        assert main(["stage", stage, "--data", "own", "--set", "shards.val_share=0.5", *quiet]) == 0
    assert open_table("own/download").rows == ROWS
    left_out = sum(open_table(folder).rows for folder in Path("own/quarantine").iterdir())
    assert open_table("own/shards").rows + left_out == ROWS + 1
    assert lint(Path("own"), FLOW) == []


def test_a_folder_of_an_earlier_release_is_taken_as_it_is(tmp_path: Path) -> None:
    quiet = ["--cluster", "inline", "--quiet"]
    out = tmp_path / "own"
    with pictures(tmp_path / "www", ROWS) as host:
        write_list(tmp_path / "my.csv", host, range(ROWS))
        command = ["download", str(tmp_path / "my.csv"), "--out", str(out), "--allow-host", host, *quiet]
        assert main(command) == 0
        (out / "download").rename(out / "pairs")
        stamp = (out / "pairs/00000.parquet").stat().st_mtime_ns
        assert main(command) == 0
        assert (out / "pairs/00000.parquet").stat().st_mtime_ns == stamp
        assert not (out / "download").exists()
        assert main(["curate", str(out), "--out", str(tmp_path / "clean"), *quiet]) == 0
    assert open_table(tmp_path / "clean/curate").rows == ROWS


def test_captions_that_go_with_duplicates_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quiet = ["--cluster", "inline", "--quiet"]
    out = str(tmp_path / "own")
    with pictures(tmp_path / "www", ROWS) as host:
        shutil.copy(tmp_path / "www/0.jpg", tmp_path / f"www/{ROWS}.jpg")
        file = write_list(tmp_path / "my.csv", host, range(ROWS + 1))
        command = ["download", str(file), "--out", out, "--allow-host", host, "--rows-per-shard", "2", *quiet]
        assert main(command) == 0
    assert main(["curate", out, "--out", out, *quiet]) == 0
    assert "2 in quarantine (caption-lost 1, duplicate 1), 1 captions lost with duplicates;" in capsys.readouterr().out
    assert main(["curate", out, "--out", out, "--set", "curate.unite_captions=corpus", "--redo", "--json", *quiet]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["summary"] == {"captions": ROWS + 1, "captions_lost": 0}


def test_a_number_is_bold_on_a_terminal_only(tmp_path: Path) -> None:
    terminal = os.openpty()[1]
    with os.fdopen(terminal, "w") as shown, (tmp_path / "file").open("w") as written:
        assert bold("3 lost", shown) == "\033[1m3 lost\033[0m"
        assert bold("3 lost", written) == "3 lost"
