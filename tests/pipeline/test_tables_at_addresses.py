"""What looks at tables finds the same at an address as in a folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli import main
from tests.bucket import EXPIRED, Server, below, content, serving
from tests.pairloom.loader.loading import write_folder
from tests.pipeline.helpers import write_texts

ADDRESS = "s3://pairs/d/data"


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Server, Any]]:
    """A bucket with what lies in `data`."""
    monkeypatch.chdir(tmp_path)
    write_folder(Path("data/shards"), (9, 8, 6), splits=("train", "val"))
    write_texts([f"text {row}" for row in range(7)], Path("data"))
    with serving("pairs") as found:
        assert main(["push", "data", ADDRESS]) == 0
        yield found


def told(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, Any]:
    capsys.readouterr()
    code = main([*words, "--json"])
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    "words",
    [
        ["info", "data"],
        ["info", "data/shards"],
        ["lint", "data"],
        ["verify", "data"],
        ["preview", "data/shards", "--row", "train-00001:3"],
        ["diff", "data", "data"],
    ],
    ids=lambda words: "-".join(words[:2]).replace("/", "-"),
)
def test_the_answer_of_an_address_is_that_of_the_folder(
    words: list[str], there: tuple[Server, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    here = told(words, capsys)
    far = told([word.replace("data", ADDRESS, 1) if word.startswith("data") else word for word in words], capsys)
    as_folder = json.dumps(far).replace(ADDRESS, "data").replace(" --data data", "")  # which is the default
    assert json.loads(as_folder) == json.loads(json.dumps(here))
    assert "pairloom-" not in json.dumps(far)


def test_info_reads_manifests_alone(there: tuple[Server, Any]) -> None:
    there[0].asked.clear()
    assert main(["info", ADDRESS]) == 0
    assert not [path for _, path in there[0].asked if path.endswith(".parquet")]


def test_a_report_of_an_address_is_written_here(there: tuple[Server, Any]) -> None:
    assert main(["report", "--data", ADDRESS]) == 0
    assert Path("report/index.html").is_file()
    assert main(["report", "--data", "data", "--out", "other/index.html"]) == 0
    sizes = [len(Path(page).read_text(encoding="utf-8")) for page in ("report/index.html", "other/index.html")]
    assert max(sizes) - min(sizes) < 500  # but for the names of places


WAYS = {
    "sample": ["--share", "0.5"],
    "filter": ["--where", "num_regions >= 2"],
    "split": ["--parts", "2"],
    "merge": [],
}


@pytest.mark.parametrize("verb", WAYS)
def test_folders_made_of_shards_are_the_same_wherever_both_lie(
    verb: str, there: tuple[Server, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    way = ["shards", verb, *WAYS[verb]]
    assert main([*way, "data/shards", "--out", "of-folder"]) == 0
    assert main([*way, f"{ADDRESS}/shards", "--out", "of-address"]) == 0
    wanted = below(Path("of-folder"))
    assert below(Path("of-address")) == wanted
    for source in ("data/shards", f"{ADDRESS}/shards"):
        made = f"s3://pairs/made/{source.rpartition(':')[0] or 'disk'}"
        capsys.readouterr()
        assert main([*way, source, "--out", made]) == 0
        assert f"{made}{'/1' if verb == 'split' else ''}: " in capsys.readouterr().out
        begin = made.removeprefix("s3://pairs/") + "/"
        found = {key: body for key, body in content(there[1], "pairs").items() if key.startswith(begin)}
        assert {key.removeprefix(begin): body for key, body in found.items()} == wanted
        assert main([*way, source, "--out", made]) == 1
        assert "the folder is not empty" in capsys.readouterr().err
    noted = Path("data/shards/_pairloom/derived.json").read_text(encoding="utf-8")
    assert "s3://pairs/made/disk" in noted


def test_shards_that_were_not_finished_at_an_address_are_made_anew(
    there: tuple[Server, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    server, client = there
    way = ["shards", "sample", "data/shards", "--share", "0.9", "--out"]
    assert main([*way, "here"]) == 0
    assert main([*way, ADDRESS]) == 1
    assert f"the folder is not empty\n  where: {ADDRESS}" in capsys.readouterr().err

    def made() -> dict[str, bytes]:
        found = content(client, "pairs").items()
        return {key.removeprefix("half/"): body for key, body in found if key.startswith("half/")}

    for refused, left in (("val-00000.parquet", False), ("manifest.json", True)):
        server.rule = lambda method, path: EXPIRED if path.endswith(refused) and method == "PUT" else None  # noqa: B023
        assert main([*way, "s3://pairs/half"]) == 1
        assert "the credentials have expired" in capsys.readouterr().err
        server.rule = lambda method, path: None
        assert ("_pairloom/manifest.jsonl" in made(), bool(made())) == (left, left)  # as after kill -9
    assert main([*way, "s3://pairs/half"]) == 0
    assert made() == below(Path("here"))


def test_damage_in_the_bucket_is_found_and_named(there: tuple[Server, Any], capsys: pytest.CaptureFixture[str]) -> None:
    client, key = there[1], "d/data/shards/train-00001.parquet"
    body = bytearray(content(client, "pairs")[key])
    body[2000] ^= 1
    client.put_object(Bucket="pairs", Key=key, Body=bytes(body))
    client.delete_object(Bucket="pairs", Key="d/data/urls/00000.parquet")
    for verb in ("verify", "lint"):
        assert main([verb, ADDRESS]) == 1
        said = capsys.readouterr().out
        assert f"{ADDRESS}/shards/train-00001.parquet" in said
        assert f"{ADDRESS}/urls/00000.parquet" in said


def test_an_address_without_tables_is_refused(there: tuple[Server, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lint", "s3://pairs/nothing"]) == 1
    assert "there is no finished table here or below\n  where: s3://pairs/nothing" in capsys.readouterr().err
