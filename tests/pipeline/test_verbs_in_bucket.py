"""Verbs of one stage on a dataset in a bucket: they write there what they write on a disk."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pairloom.store.folder import open_folder
from pipeline.cli import main
from tests import bucket as faults
from tests.bucket import Server, below, content
from tests.formats.features import made
from tests.pairloom.loader.loading import write_folder
from tests.pipeline.far import BUCKET, emptied, in_bucket, tables
from tests.pipeline.features import test_joining as joining
from tests.pipeline.features.lists import coco, records
from tests.serving import pictures, write_list

COLOURS = ("red", "blue", "green")
INLINE = ("--cluster", "inline", "--quiet")


@pytest.fixture
def there(tmp_path: Path) -> Iterator[tuple[Server, Any]]:
    with emptied(tmp_path) as found:
        yield found


def fetched(place: str, host: str, *options: str) -> int:
    settings = ("--set", "download.min_success_rate=0", "--rows-per-shard", "2")
    return main(["download", "list.csv", "--out", place, "--allow-host", host, *settings, *options, *INLINE])


def test_download_curate_and_retry(there: tuple[Server, Any], capsys: pytest.CaptureFixture[str]) -> None:
    client = there[1]
    with pictures(Path("www"), 5) as host:
        write_list(Path("list.csv"), host, range(5))
        Path("www/3.jpg").rename("3.jpg")
        for place in ("here", BUCKET):
            assert fetched(place, host) == 0
            assert main(["curate", place, "--out", place, *INLINE]) == 0
        assert in_bucket(client) == tables(below(Path("here")))
        Path("3.jpg").rename("www/3.jpg")
        for place in ("here", BUCKET):
            capsys.readouterr()
            again = ["retry", place, "--reason", "not-found", "--set", f"download.allow_hosts=['{host}']", "--json"]
            assert main([*again, *INLINE]) == 0
            assert json.loads(capsys.readouterr().out)["retried"] == 1
        assert open_folder(Path("here/download")).rows == 5
        assert in_bucket(client) == tables(below(Path("here")))
    assert main(["curate", BUCKET, "--out", "s3://pairs/other", *INLINE]) == 0
    assert main(["curate", "here", "--out", "other", *INLINE]) == 0
    assert {key[6:]: body for key, body in content(client, "pairs").items() if key.startswith("other/curate/")} == {
        name: body for name, body in below(Path("other")).items() if name.startswith("curate/")
    }


def test_features_become_tables(there: tuple[Server, Any]) -> None:
    made.write("lxmert-tsv", Path("in"), records(10))
    coco(Path("c.json"), records(10))
    for place in ("here", BUCKET):
        line = ["import", "in", "--as", "lxmert-tsv", "--captions", "c.json", "--out", place, "--rows-per-shard", "4"]
        assert main([*line, "--quiet"]) == 0
    assert {"regions/00002.parquet", "download/00002.parquet"} < in_bucket(there[1]).keys()
    assert in_bucket(there[1]) == tables(below(Path("here")))
    assert main(["import", "in", "--as", "lxmert-tsv", "--out", BUCKET, "--rows-per-shard", "5", "--quiet"]) == 1


def test_features_join_pictures(there: tuple[Server, Any]) -> None:
    made.write("lxmert-tsv", Path("in"), records(10))
    joining.dataset(Path("here"), [3, 1, 4, 0, 5, 9])
    assert main(["push", "here", BUCKET]) == 0
    for place in ("here", BUCKET):
        assert main(["import", "in", "--as", "lxmert-tsv", "--out", place, "--quiet"]) == 0
    assert in_bucket(there[1]) == tables(below(Path("here")))


def test_texts_become_a_table(there: tuple[Server, Any], capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.txt").write_text("one\n\ntwo\n", encoding="utf-8")
    for place in ("here/texts", f"{BUCKET}/texts"):
        assert main(["texts", "a.txt", "--out", place]) == 0
    assert f"2 texts, 1 empty ones left out: {BUCKET}/texts" in capsys.readouterr().out
    assert in_bucket(there[1]) == tables(below(Path("here")))
    assert main(["texts", "a.txt", "--out", f"{BUCKET}/texts"]) == 1
    assert f"there is a table already\n  where: {BUCKET}/texts" in capsys.readouterr().err
    assert main(["texts", "a.txt", "--out", f"{BUCKET}/texts", "--redo"]) == 0
    assert main(["texts", "a.txt", "--out", "s3://pairs"]) == 1
    assert "this takes a folder in a bucket" in capsys.readouterr().err


def test_negatives_of_a_list_resume(
    there: tuple[Server, Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, client = there
    lines = [f"{row},a {COLOURS[row % 3]} dog number {row % 7}" for row in range(40)]
    Path("c.csv").write_text("\n".join(["image_id,caption", *lines]), encoding="utf-8")
    monkeypatch.setattr("stages.negatives.standalone.MOST_TEXT", 16 * 30 * len("a green dog number 6"))
    line = ["negatives", "c.csv", "--threads", "1", "--quiet", "--out"]
    assert main([*line, "here/mined"]) == 0
    server.rule = lambda method, path: faults.EXPIRED if method == "PUT" and path.endswith("00002.parquet") else None
    assert main([*line, f"{BUCKET}/mined"]) == 1
    server.rule = lambda method, path: None
    assert main([*line, f"{BUCKET}/mined", "--top-k", "3"]) == 1
    assert f"was not finished here\n  where: {BUCKET}/mined/_started.json" in capsys.readouterr().err
    server.asked.clear()
    assert main([*line, f"{BUCKET}/mined"]) == 0
    assert [path[-13:] for method, path in server.asked if method == "PUT" and "parquet" in path] == ["00002.parquet"]
    found, wanted = in_bucket(client), tables(below(Path("here")))
    summaries = [json.loads(each.pop("mined/_summary.json")) for each in (found, wanted)]
    assert found == wanted
    for facts in summaries:
        del facts["seconds"], facts["out"]
    assert summaries[0] == summaries[1]
    assert main([*line, f"{BUCKET}/mined"]) == 1


def test_a_folder_of_pictures_is_imported(there: tuple[Server, Any]) -> None:
    client = there[1]
    with pictures(Path("www"), 3):
        for number in range(3):
            Path(f"www/{number}.txt").write_text(f"a thing of {number}", encoding="utf-8")
        for place in ("here", BUCKET):
            assert main(["import", "www", "--as", "folder", "--out", place, *INLINE]) == 0
    found, wanted = in_bucket(client), tables(below(Path("here")))
    assert found.keys() == wanted.keys()
    assert found == wanted


def test_indices_of_shards_are_made_again(there: tuple[Server, Any]) -> None:
    client = there[1]
    write_folder(Path("shards"), (9, 8), splits=("train", "val"))
    assert main(["shards", "index", "shards"]) == 0
    assert main(["push", "shards", f"{BUCKET}/shards"]) == 0
    before = content(client, "pairs")
    indices = [key for key in before if key.endswith((".index", ".counts"))]
    assert len(indices) == 5
    for key in indices:
        client.delete_object(Bucket="pairs", Key=key)
    assert main(["shards", "index", f"{BUCKET}/shards"]) == 0
    assert content(client, "pairs") == before


def test_shards_are_exported_as_those_of_a_folder(there: tuple[Server, Any]) -> None:
    write_folder(Path("shards"), (9, 8), splits=("train", "val"))
    assert main(["push", "shards", f"{BUCKET}/shards"]) == 0
    for place, out in (("shards", "of-folder"), (f"{BUCKET}/shards", "of-address")):
        assert main(["export", place, "--as", "lxmert-tsv", "--out", out, "--quiet"]) == 0
    assert below(Path("of-address")) == below(Path("of-folder"))


def test_regions_of_a_folder_are_extracted(there: tuple[Server, Any], capsys: pytest.CaptureFixture[str]) -> None:
    with pictures(Path("www"), 2):
        for place in ("here", BUCKET):
            assert main(["extract", "www", "--out", place, "--detector", "starter", *INLINE]) == 0
        assert f"regions: {BUCKET}/regions" in capsys.readouterr().out
        assert in_bucket(there[1]) == tables(below(Path("here")))
        assert main(["extract", "www", "--out", BUCKET, "--format", "lxmert-tsv"]) == 1
        assert f"works on folders of this machine alone\n  where: {BUCKET}" in capsys.readouterr().err
