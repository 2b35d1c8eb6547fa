"""`pairloom retry` of rows that any stage left out for an error: their shards are made again, and no others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pairloom.store.folder import open_folder
from pipeline.cli import main
from stages import tags
from tests.bucket import below
from tests.inspection.synthetic import make_dataset
from tests.pipeline.far import BUCKET, emptied, in_bucket, tables

process = tags.process


def fails_on_the_first_image(regions: pa.Table, tools: Any) -> pa.Table:
    """As a library that was broken for a while. Images come in the order of the shard."""
    if regions["image_id"][0].as_py() == FIRST[0]:
        raise ValueError("broken for a while")
    return process(regions, tools)


FIRST: list[bytes] = []


def run(*arguments: str) -> int:
    return main([*arguments, "--cluster", "inline", "--quiet", "--json"])


def test_the_shards_with_such_rows_are_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_dataset(tmp_path / "data")
    FIRST[:] = [open_folder(data / "regions").read("00001")["image_id"][0].as_py()]
    monkeypatch.setattr(tags, "process", fails_on_the_first_image)
    assert run("stage", "tags", "--data", str(data), "--redo", "--metrics", str(tmp_path / "metrics")) == 0
    assert [entry.rejected.get("stage-error", 0) for entry in open_folder(data / "tags").shards] == [0, 1]
    before = {file.name: file.stat().st_mtime_ns for file in (data / "tags").glob("*.parquet")}
    monkeypatch.setattr(tags, "process", process)
    capsys.readouterr()

    assert run("retry", str(data), "--reason", "worker-died") == 0
    assert json.loads(capsys.readouterr().out)["retried"] == 0
    assert run("retry", str(data), "--reason", "stage-error", "--stage", "curate") == 0
    assert json.loads(capsys.readouterr().out)["retried"] == 0
    assert run("retry", str(data), "--reason", "stage-error,worker-died") == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["stage"], said["retried"], said["shards_made"]) == ("tags", 1, 1)
    changed = [name for name, time in before.items() if (data / "tags" / name).stat().st_mtime_ns != time]
    assert changed == ["00001.parquet"]
    assert all(entry.rejected == {} for entry in open_folder(data / "tags").shards)


def test_in_a_bucket_the_same_shards_are_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with emptied(tmp_path) as (server, client):
        data = make_dataset(tmp_path / "data")
        FIRST[:] = [open_folder(data / "regions").read("00001")["image_id"][0].as_py()]
        monkeypatch.setattr(tags, "process", fails_on_the_first_image)
        assert run("stage", "tags", "--data", str(data), "--redo", "--metrics", str(tmp_path / "metrics")) == 0
        assert main(["push", str(data), BUCKET, "--quiet"]) == 0
        monkeypatch.setattr(tags, "process", process)
        server.asked.clear()
        for place in (BUCKET, str(data)):
            assert run("retry", place, "--reason", "stage-error,worker-died") == 0
        put = [path for method, path in server.asked if method == "PUT" and path.endswith(".parquet")]
        assert [path.partition("/d/")[2] for path in put] == ["tags/00001.parquet"]
        wanted = tables(below(data))
        found = in_bucket(client)
        assert {name: found[name] for name in found if "tags/" in name} == {
            name: wanted[name] for name in wanted if "tags/" in name
        }


def test_a_stage_that_there_is_not_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("retry", str(tmp_path), "--reason", "stage-error", "--stage", "tgas") == 1
    assert "there is no stage 'tgas'" in capsys.readouterr().err
