"""`pairloom import` end to end: the same two stages as a list, so it resumes, grows, moves and can be retried."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pairloom import open_table
from pipeline import project
from pipeline.cli import main
from pipeline.params import read_params
from stages import sample
from tests.formats.datasets.layouts import CAPTIONS, coco, picture, write_pictures, write_tar
from tests.pipeline.helpers import hashes
from tests.serving import served

QUIET = ["--cluster", "inline", "--quiet"]


def rows(table: Path) -> list[dict[str, Any]]:
    found = open_table(table)
    return [row for entry in found.shards for row in found.read(entry.name).to_pylist()]


def rejected(data: Path) -> list[tuple[str, str]]:
    return [(row["key"], row["reason"]) for row in rows(data / "quarantine/download")]


def result(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main([*arguments, *QUIET, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_coco_comes_in_moves_and_is_not_read_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    coco(tmp_path / "coco")
    out = tmp_path / "out"
    assert main(["import", str(tmp_path / "coco"), "--out", str(out), *QUIET]) == 0
    said = capsys.readouterr().err
    assert f"{tmp_path / 'coco'} is taken as coco, since it has annotations/captions_val2017.json" in said
    stored = rows(out / "download")
    assert [row["image"] for row in stored] == [picture(number) for number in range(len(CAPTIONS))]
    assert [[caption["original"] for caption in row["captions"]] for row in stored] == [list(each) for each in CAPTIONS]
    assert [row["licence"] for row in stored] == ["BY", "BY-SA", "BY", "BY-SA"]
    assert {row["url"] for row in pq.read_table(out / "sample/truth.parquet").to_pylist()} < {
        row["url"] for row in stored
    }
    before = hashes(out / "download")
    (tmp_path / "coco").rename(tmp_path / "moved")
    again = result(capsys, "import", str(tmp_path / "moved"), "--out", str(out))
    assert (again["shards_made"], hashes(out / "download")) == (0, before)


def test_a_data_set_that_grows_makes_new_shards_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x").mkdir()
    for number in range(2):
        write_tar(tmp_path / f"x/{number}.tar", [(f"{number}.jpg", picture(number)), (f"{number}.txt", b"said")])
        found = result(capsys, "import", str(tmp_path / "x"), "--out", str(tmp_path / "out"))
        assert (found["shards"], found["shards_made"]) == (number + 1, 1)
    urls = [row["url"] for row in rows(tmp_path / "out/download")]
    assert urls == ["webdataset:0.tar/0.jpg", "webdataset:1.tar/1.jpg"]


def test_two_workers_write_the_bytes_of_one(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    members = [m for n in range(12) for m in ((f"{n:02d}.jpg", picture(n)), (f"{n:02d}.txt", b"said"))]
    write_tar(tmp_path / "x/0.tar", members)
    command = ["import", str(tmp_path / "x"), "--rows-per-shard", "3", "--quiet"]
    assert main([*command, "--out", str(tmp_path / "one"), "--cluster", "inline"]) == 0
    assert main([*command, "--out", str(tmp_path / "two"), "--cluster", "local", "--workers", "2"]) == 0
    assert hashes(tmp_path / "one/download") == hashes(tmp_path / "two/download")
    assert open_table(tmp_path / "two/download").rows == 12


def test_a_missing_picture_is_named_and_tried_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    coco(tmp_path / "coco")
    gone = tmp_path / "coco/val2017/000000000001.jpg"
    gone.rename(tmp_path / "elsewhere.jpg")
    out = tmp_path / "out"
    assert main(["import", str(tmp_path / "coco"), "--out", str(out), "--name", "mine", *QUIET]) == 0
    assert rejected(out) == [("mine:val2017/000000000001.jpg", "not-found")]
    shutil.copy(tmp_path / "elsewhere.jpg", gone)
    capsys.readouterr()
    found = result(capsys, "retry", str(out), "--reason", "not-found")
    assert (found["retried"], found["rows_out"]) == (1, len(CAPTIONS))


def test_what_img2dataset_could_not_fetch_is_fetched_by_retry(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = tmp_path / "i2d", tmp_path / "out"
    write_pictures(tmp_path / "www", ["0.jpg", "1.jpg"])
    write_pictures(folder / "00000", ["000000000.jpg"])
    with served(tmp_path / "www") as host:
        said = [(f"http://{host}/0.jpg", "success", None), (f"http://{host}/1.jpg", "failed_to_download", "timed out"),
                (f"http://{host}/2.jpg", "failed_to_download", "HTTP Error 404: Not Found")]  # fmt: skip
        write_shard(folder, said)
        assert main(["import", str(folder), "--out", str(out), *QUIET]) == 0
        assert [row["image"] for row in rows(out / "download")] == [picture(0)]
        assert rejected(out) == [(said[1][0], "timeout"), (said[2][0], "not-found")]
        capsys.readouterr()
        found = result(capsys, "retry", str(out), "--reason", "timeout", "--set", f"download.allow_hosts=['{host}']")
    assert (found["retried"], found["rows_out"]) == (1, 2)
    assert [row["image"] for row in rows(out / "download")] == [picture(0), picture(1)]
    assert rejected(out) == [(said[2][0], "not-found")]


def write_shard(folder: Path, said: list[tuple[str, str, str | None]]) -> None:
    """img2dataset's Parquet file and statistics of a shard (tests/formats/datasets has those that it makes itself)."""
    columns = {"url": [url for url, *_ in said], "caption": ["said"] * len(said)}
    columns |= {"key": [f"{number:09d}" for number in range(len(said))]}
    columns |= {"status": [status for _, status, _ in said]}
    errors = pa.array([error for *_, error in said], pa.string())
    pq.write_table(pa.table(columns).append_column("error_message", errors), folder / "00000.parquet")
    (folder / "00000_stats.json").write_text(json.dumps({"count": len(said)}))


def test_the_stages_of_a_project_make_the_same_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    coco(tmp_path / "coco")
    assert main(["import", str(tmp_path / "coco"), "--out", str(tmp_path / "out"), *QUIET]) == 0
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("sample: {urls: coco, format: coco}\n")
    for stage in ("sample", "download"):
        assert main(["stage", stage, *QUIET]) == 0
    for table in ("urls", "download"):
        assert rows(tmp_path / "data" / table) == rows(tmp_path / "out" / table)


def test_a_folder_that_changes_after_it_was_listed_costs_only_the_rows_that_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "x"
    write_pictures(folder, [f"{number}.jpg" for number in range(4)])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("sample: {urls: x, format: folder}\n")
    assert main(["stage", "sample", *QUIET]) == 0
    (folder / "0.jpg").unlink()
    (folder / "1.jpg").write_bytes(picture(8))
    (folder / "2.jpg").unlink()
    (folder / "2.jpg").mkdir()
    (folder / "4.jpg").write_bytes(picture(9))
    assert main(["stage", "download", *QUIET]) == 0
    assert [row["image"] for row in rows(tmp_path / "data/download")] == [picture(8), picture(3)]
    assert rejected(tmp_path / "data") == [("folder:0.jpg", "not-found"), ("folder:2.jpg", "not-found")]
    capsys.readouterr()
    assert main(["stage", "sample", *QUIET]) == 1  # what was listed is gone: nothing is made again without a word
    assert "row 0 of the list" in capsys.readouterr().err


def test_a_project_of_a_data_set_says_its_format(tmp_path: Path) -> None:
    project.write(tmp_path, "/data/coco", "coco")
    params = read_params(tmp_path / "params.yaml")
    settings = params.build(sample.Config, "sample")
    assert (settings.format, settings.places()) == ("coco", (("coco", "/data/coco"),))
    assert params.of_stage("download").sources == (("coco", "/data/coco"),)


def test_a_list_may_name_places_in_sources(tmp_path: Path) -> None:
    write_pictures(tmp_path / "own", ["a b.jpg"])
    (tmp_path / "my.csv").write_text("url,caption\nown:a b.jpg,one\nown:../my.csv,two\n")
    command = ["download", str(tmp_path / "my.csv"), "--source", f"own={tmp_path / 'own'}"]
    assert main([*command, "--out", str(tmp_path / "out"), *QUIET]) == 0
    assert [row["image"] for row in rows(tmp_path / "out/download")] == [picture(0)]
    assert rejected(tmp_path / "out") == [("own:../my.csv", "path-refused")]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["none-there"], "no such folder"),
        (["x", "--as", "cocoa"], "no format 'cocoa'"),
        (["x"], "none of the data sets"),
        (["x", "--as", "folder", "--name", "http"], "sample.sources has the name 'http'"),
        (["x", "--as", "folder"], "the list has no rows"),
        (["my.csv"], "pairloom download"),
    ],
)
def test_what_cannot_be_imported_is_refused_with_its_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x").mkdir()
    (tmp_path / "my.csv").write_text("url,caption\nhttp://a.example/1.jpg,one\n")
    assert main(["import", *arguments, "--out", "out", *QUIET]) == 1
    assert said in capsys.readouterr().err
