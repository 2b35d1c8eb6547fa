"""`pairloom forget` on a dataset that a run made of a web server's pictures: gone everywhere, and not back again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inspection.lint import lint
from pairloom.store import derived, tombstones
from pairloom.store import writing as store
from pairloom.store.folder import open_folder
from pairloom.store.verify import verify
from pipeline.cli import main
from pipeline.forget import forget
from pipeline.forget.wanted import Wanted
from pipeline.stage import flow
from tests.pipeline.helpers import hashes
from tests.serving import pictures

pytestmark = pytest.mark.slow

ROWS, A_SHARD = 10, 3
TABLES = ("urls", "download", "curate", "regions", "tags", "negatives", "shards")
COMMON = ("one", "red", "dog", "two", "cats", "here")


class Whole:
    """A finished dataset, and how to run it again."""

    def __init__(self, folder: Path, host: str, asked: list[str]) -> None:
        self.folder, self.host, self.asked = folder, host, asked
        lines = [
            f"http://{host}/{row}.jpg,{COMMON[row % 6]} {COMMON[row % 5]} thing number{row}" for row in range(ROWS - 1)
        ]
        lines.insert(7, "no address at all,")
        lines.append(f"http://{host}/twin.jpg,another address of picture four")
        (folder / "my.csv").write_text("url,caption\n" + "\n".join(lines) + "\n")
        assert self.run(folder / "data") == 0

    def run(self, data: Path) -> int:
        settings = {
            "sample.rows_per_shard": A_SHARD,
            "sample.unite": "true",
            "download.allow_hosts": f"[{self.host}]",
            "run.cluster": "inline",
            "shards.val_share": 0.3,
            "shards.shard_bytes": 20_000_000,
            "curate.max_distance": 0,
            "negatives.near_distance": "null",
        }
        options = [option for key, value in settings.items() for option in ("--set", f"{key}={value}")]
        return main(["run", "--urls", str(self.folder / "my.csv"), "--out", str(data), "--quiet", "--json", *options])

    def copy(self, where: Path) -> Path:
        return Path(shutil.copytree(self.folder / "data", where))

    def images(self) -> dict[str, bytes]:
        """url -> image_id of what was downloaded."""
        tables = [table for _, table in open_folder(self.folder / "data" / "download").tables(["url", "image_id"])]
        return {row["url"]: row["image_id"] for table in tables for row in table.to_pylist()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    folder, asked = tmp_path_factory.mktemp("whole"), list[str]()
    with pictures(folder / "www", ROWS, asked) as host:
        shutil.copy(folder / "www" / "4.jpg", folder / "www" / "twin.jpg")
        yield Whole(folder, host, asked)


def rows_of(data: Path) -> dict[str, list[dict[str, Any]]]:
    """Of each table all rows, but for large values, in order."""
    found = {}
    for name in TABLES:
        tables = [table for _, table in open_folder(data / name).tables()]
        small = [column for column in tables[0].column_names if column not in ("image", "features", "captions_raw")]
        found[name] = [row for table in tables for row in table.select(small).to_pylist()]
    return found


def without(rows: dict[str, list[dict[str, Any]]], images: set[bytes], urls: set[str]) -> dict[str, Any]:
    """What is left, in plain Python."""
    left = {}
    for name, table in rows.items():
        kept = [dict(row) for row in table if row.get("image_id") not in images and row.get("url") not in urls]
        for row in kept:
            if "negatives" in row:
                lists = [[one for one in own if one["image_id"] not in images] for own in row["negatives"]]
                lost = [len(old) - len(new) for old, new in zip(row["negatives"], lists, strict=True)]
                row["short"] = [short + more for short, more in zip(row["short"], lost, strict=True)]
                row["negatives"] = lists
        left[name] = kept
    return left


def made_again(whole: Whole, data: Path, capsys: pytest.CaptureFixture[str]) -> int:
    """How many shards a run makes. It may ask the server for nothing."""
    capsys.readouterr()
    whole.asked.clear()
    assert whole.run(data) == 0
    stages = json.loads(capsys.readouterr().out)["stages"]
    assert not whole.asked
    return sum(stage["shards_made"] for stage in stages)


@pytest.mark.parametrize("chosen", [{0}, {1, 5, 9}, {3, 4, 5}, set(range(10)) - {2}])
def test_what_is_forgotten_is_nowhere_and_does_not_come_back(
    whole: Whole, tmp_path: Path, capsys: pytest.CaptureFixture[str], chosen: set[int]
) -> None:
    data, images = whole.copy(tmp_path / "data"), whole.images()
    urls = sorted(images)
    names = [images[urls[row]].hex() if row % 2 else urls[row] for row in sorted(chosen)]
    gone = {images[urls[row]] for row in chosen}
    addresses = {url for url, image in images.items() if image in gone}
    (tmp_path / "ids.txt").write_text("\n".join(names) + "\n")
    expected = without(rows_of(data), gone, addresses)
    assert main(["forget", str(data), "--ids", str(tmp_path / "ids.txt"), "--quiet"]) == 0
    assert rows_of(data) == expected
    for file in (path for path in data.rglob("*") if path.is_file() and path.name != tombstones.NAME):
        content = file.read_bytes()
        assert not any(image in content for image in gone), file
    assert lint(data, flow()) == []
    assert [problem for name in TABLES for problem in verify(data / name)] == []
    before = hashes(data)
    assert made_again(whole, data, capsys) == 0
    assert {name: value for name, value in hashes(data).items() if name in before and "locks" not in name} == {
        name: value for name, value in before.items() if "locks" not in name
    }


class StoppedError(BaseException):
    """Stands for the death of the process: nothing of the program catches it."""


@settings(max_examples=8, deadline=None)
@given(step=st.integers(0, 40))
def test_a_killed_forget_is_finished_by_the_same_command_with_equal_bytes(
    whole: Whole, tmp_path_factory: pytest.TempPathFactory, step: int
) -> None:
    images = whole.images()
    asked = Wanted(frozenset(list(images.values())[2:9:3]), frozenset())
    at_once, killed = (whole.copy(tmp_path_factory.mktemp("data") / "data") for _ in range(2))
    forget(at_once, asked, quiet=True)
    steps = 0
    original = Path.replace

    def replace(self: Path, target: Path) -> Path:
        nonlocal steps
        steps += 1
        if steps > step:
            raise StoppedError
        return original(self, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "replace", replace)
        try:
            forget(killed, asked, quiet=True)
        except StoppedError:
            patch.undo()
            if (killed / tombstones.IN_WORK / "note.json").exists():
                assert whole.run(killed) == 1  # it is refused until that is finished
            forget(killed, asked, quiet=True)
    left = {name: value for name, value in hashes(killed).items() if "locks" not in name}
    assert left == {name: value for name, value in hashes(at_once).items() if "locks" not in name}


def test_kill_nine_in_the_middle_leaves_what_the_same_command_finishes(whole: Whole, tmp_path: Path) -> None:
    data, images = whole.copy(tmp_path / "data"), whole.images()
    url = sorted(images)[3]
    (tmp_path / "ids.txt").write_text(url)
    code = (
        "import os, sys\nfrom pipeline import cli\nfrom pipeline.forget import tables\nmade = tables.write_shard\n"
        "def write(folder, name, table):\n    found = made(folder, name, table)\n"
        "    if folder.name == 'negatives':\n        os.kill(os.getpid(), 9)\n    return found\n"
        "tables.write_shard = write\nsys.exit(cli.main(sys.argv[1:]))\n"
    )
    command = ["forget", str(data), "--ids", str(tmp_path / "ids.txt"), "--quiet"]
    done = subprocess.run([sys.executable, "-c", code, *command], check=False, env=os.environ)
    assert done.returncode == -9
    assert (data / tombstones.IN_WORK).exists()
    assert main(["forget", str(data), "--quiet"]) == 0  # without the ids: they are known
    assert lint(data, flow()) == []
    assert rows_of(data) == without(rows_of(whole.folder / "data"), {images[url]}, {url})


def test_a_picture_that_comes_by_another_address_is_left_out(
    whole: Whole, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, images = whole.copy(tmp_path / "data"), whole.images()
    forget(data, Wanted(frozenset([images[f"http://{whole.host}/6.jpg"]]), frozenset()), quiet=True)
    shutil.copy(whole.folder / "www" / "6.jpg", whole.folder / "www" / "again.jpg")
    lines = (whole.folder / "my.csv").read_text()
    try:
        with (whole.folder / "my.csv").open("a") as file:
            file.write(f"http://{whole.host}/again.jpg,the same picture\n")
        assert whole.run(data) == 0
    finally:
        (whole.folder / "my.csv").write_text(lines)
    tables = [table for _, table in open_folder(data / "quarantine" / "download").tables()]
    (rejected,) = (row for table in tables for row in table.to_pylist() if row["reason"] == "forgotten")
    assert rejected["key"].endswith("again.jpg")
    assert "the same picture" not in rejected["row"]
    assert lint(data, flow()) == []


def test_a_lost_shard_comes_back_without_the_forgotten_rows_in_the_same_place(
    whole: Whole, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, images = whole.copy(tmp_path / "data"), whole.images()
    forget(data, Wanted(frozenset(list(images.values())[1:8:3]), frozenset()), quiet=True)
    rows, (first, *_) = rows_of(data), open_folder(data / "shards").shards
    (data / "shards" / f"{first.name}.parquet").unlink()
    assert made_again(whole, data, capsys) == 1
    assert rows_of(data) == rows
    assert lint(data, flow()) == []


def test_an_export_of_the_old_shards_is_named(whole: Whole, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, images = whole.copy(tmp_path / "data"), whole.images()
    assert (
        main(["export", str(data / "shards"), "--as", "open-clip-csv", "--out", str(tmp_path / "csv"), "--quiet"]) == 0
    )
    assert main(["shards", "sample", str(data / "shards"), "--share", "0.5", "--out", str(tmp_path / "half")]) == 0
    assert [each.how for each in derived.read(data / "shards")] == ["export open-clip-csv", "shards sample"]
    assert not derived.stale(open_folder(data / "shards"))
    done = forget(data, Wanted(frozenset(list(images.values())[:1]), frozenset()), quiet=True)
    assert [each.out for each in done.stale] == [str(tmp_path / "csv"), str(tmp_path / "half")]


def test_an_unfinished_table_and_a_run_beside_it_are_refused(
    whole: Whole, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = whole.copy(tmp_path / "data")
    (tmp_path / "ids.txt").write_text("00" * 16)

    def command() -> int:
        return main(["forget", str(data), "--ids", str(tmp_path / "ids.txt"), "--quiet"])

    with store.only_writer(data, "curate"):
        assert command() == 1
    assert "another process is running stage curate" in capsys.readouterr().err
    folder = open_folder(data / "tags")
    writer = store.Writer.open(folder.path, folder.header)
    writer.begin(list(writer.done)[:-1])
    assert command() == 1
    assert "table tags is unfinished" in capsys.readouterr().err
    assert main(["forget", str(data)]) == 1
    assert "nothing says what to forget" in capsys.readouterr().err
