"""Folders of an index that workers make: whole or not there, not made twice, and handed on through a bucket."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pairloom.store.address import in_bucket
from pairloom.store.scratch import opened, put
from pipeline.cluster import open_pool
from pipeline.config import RunConfig
from pipeline.corpus import CorpusOnDisk
from pipeline.desk import Desk
from pipeline.folders import Making, beside, keep_whole, make
from pipeline.pool import Inline
from stages.gathered import Listed
from tests.bucket import content
from tests.pipeline.far import emptied

NAMES = ("0/0", "0/1", "1")


@dataclass(frozen=True)
class Number:
    value: int
    seen: Path  # a folder with a file for each that was made


def write(argument: Number, folder: Path) -> None:
    (argument.seen / str(argument.value)).touch(exist_ok=False)
    (folder / "below").mkdir()
    (folder / "value").write_text(str(argument.value))
    (folder / "below" / "square").write_text(str(argument.value**2))


def write_or_fail(argument: Number, folder: Path) -> None:
    write(argument, folder)
    if argument.value == 2:
        raise InterruptedError


def write_or_die(argument: Number, folder: Path) -> None:
    """Kills its process the first time, half of the work done."""
    (folder / "value").write_text("half")
    if not (argument.seen / str(argument.value)).exists():
        (argument.seen / str(argument.value)).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    (folder / "value").write_text(str(argument.value))


def joined(argument: tuple[Path, ...], folder: Path) -> None:
    (folder / "all").write_text(" ".join((each / "value").read_text() for each in argument))


def counted(argument: Listed, folder: Path) -> None:
    (folder / "all").write_text(" ".join(file.read_text() for file in argument.files()))


def corpus(folder: Path, pool: Any = Inline, apart: bool = False) -> CorpusOnDisk:
    """index: of the stage. seen: what was made, outside what a bucket stands for."""
    desk = Desk("test", pool, folder / ".index/gathered", folder / ".index/room", "1", plain=True, apart=apart)
    return CorpusOnDisk({}, desk)


def numbers(seen: Path) -> dict[str, Number]:
    return {name: Number(value, seen) for value, name in enumerate(NAMES)}


def values(found: dict[str, Path]) -> dict[str, str]:
    return {name: (folder / "value").read_text() for name, folder in found.items()}


WANTED = dict(zip(NAMES, "012", strict=True))


@pytest.fixture
def seen(tmp_path: Path) -> Path:
    (tmp_path / "seen").mkdir()
    return tmp_path / "seen"


def taken(seen: Path) -> list[str]:
    """What was made since the last look."""
    found = sorted(path.name for path in seen.iterdir())
    for name in found:
        (seen / name).unlink()
    return found


@pytest.fixture
def interrupted(tmp_path: Path, seen: Path) -> Path:
    """An index of which the last of three folders is missing, and a file of something else lies there."""
    index = tmp_path / "index"
    index.mkdir()
    (index / "half").write_text("")
    with pytest.raises(InterruptedError):
        corpus(tmp_path).folders("making", write_or_fail, numbers(seen), index)
    assert taken(seen) == ["0", "1", "2"]
    return index


def resumed(index: Path, seen: Path) -> list[str]:
    assert keep_whole(index)
    found = corpus(index.parent).folders("making", write_or_fail, {**numbers(seen), "1": Number(3, seen)}, index)
    assert values(found) == {**WANTED, "1": "3"}
    return taken(seen)


def test_what_an_interrupted_run_has_finished_is_not_made_again(interrupted: Path, seen: Path) -> None:
    assert not (interrupted / "1").exists()
    assert list((interrupted.parent / ".index/room").iterdir()) == []
    assert resumed(interrupted, seen) == ["3"]
    assert sorted(path.name for path in interrupted.iterdir()) == ["0", "1", beside(Path("1")).name]
    assert resumed(interrupted, seen) == []


@pytest.mark.parametrize("damage", ["cut", "changed", "gone", "note"])
def test_what_is_damaged_is_made_again(interrupted: Path, seen: Path, damage: str) -> None:
    square = interrupted / "0/1/below/square"
    if damage == "note":
        beside(interrupted / "0/1").write_text('{"of":')
    elif damage == "gone":
        square.unlink()
    else:
        square.write_text({"cut": "", "changed": "2"}[damage])
    assert resumed(interrupted, seen) == ["1", "3"]
    assert square.read_text() == "1"


def test_another_argument_makes_it_again_and_another_place_does_not(tmp_path: Path, seen: Path) -> None:
    found, index = corpus(tmp_path), tmp_path / "index"
    for value, places, wanted in ((5, "a", ["5"]), (6, "a", ["6"]), (6, "b", [])):
        elsewhere = seen / places / "same"
        elsewhere.mkdir(parents=True, exist_ok=True)
        made = found.folders("making", write, {"0": Number(value, elsewhere)}, index)
        assert values(made) == {"0": str(value)}
        assert taken(elsewhere) == wanted


def test_folders_of_one_call_are_arguments_of_the_next(tmp_path: Path, seen: Path) -> None:
    found = corpus(tmp_path)
    made = found.folders("making", write, numbers(seen))
    assert all(path.is_relative_to(tmp_path / ".index/room") for path in made.values())
    (folder,) = found.folders("joining", joined, {"0": tuple(made.values())}).values()
    assert (folder / "all").read_text() == "0 1 2"


def overtaken(argument: Number, folder: Path) -> None:
    """While it is at work for the first time, another worker makes the folder."""
    (folder / "value").write_text(str(argument.value))
    if not (argument.seen / "first").exists():
        (argument.seen / "first").touch()
        index = argument.seen.parent / "index"
        make(Making(overtaken, argument, index / "0", index))
        (argument.seen / "inode").write_text(str((index / "0/value").stat().st_ino))


def test_a_worker_that_was_given_up_leaves_what_another_has_made(tmp_path: Path, seen: Path) -> None:
    made = corpus(tmp_path).folders("making", overtaken, {"0": Number(5, seen)}, tmp_path / "index")
    assert (made["0"] / "value").read_text() == "5"
    assert (seen / "inode").read_text() == str((made["0"] / "value").stat().st_ino)


@pytest.mark.slow
def test_a_worker_killed_over_a_folder_leaves_nothing_of_it(tmp_path: Path, seen: Path) -> None:
    with open_pool(RunConfig(cluster="local", workers=2), 3, "test", lambda: None) as pool:  # type: ignore[arg-type, return-value]
        found = corpus(tmp_path, lambda: pool).folders("making", write_or_die, numbers(seen), tmp_path / "index")
    assert values(found) == WANTED
    assert taken(seen) == ["0", "1", "2"]
    assert not list((tmp_path / "index").rglob("*.tmp"))


class Elsewhere(Inline):
    """Workers that see nothing of the coordinator's files, and have none from before."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root, self.files = root, root.with_name("coordinator")

    def run(self, function: Any, tasks: Any, *rest: Any, **named: Any) -> Iterator[Any]:
        while tasks:
            (self.root / ".index").replace(self.files)
            result = function(task := tasks.popleft())
            shutil.rmtree(self.root / ".index")
            self.files.replace(self.root / ".index")
            yield task, result


def test_by_a_bucket_workers_make_them_of_files_that_they_do_not_see(tmp_path: Path, seen: Path) -> None:
    with emptied(tmp_path) as (_, client):
        with opened(in_bucket("s3://pairs/d")) as root:
            pool = Elsewhere(root)
            found = corpus(root, lambda: pool, apart=True)
            for number in range(3):  # as workers left them
                file = root / f".index/gathered/{number}"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(f"file {number}")
                put(file)
            files = sorted(file.parent.iterdir())
            listed = Listed.write(files, root / ".index/names")
            (folder,) = found.folders("reading", counted, {"0": listed}).values()
            assert (folder / "all").read_text() == "file 0 file 1 file 2"
            made = found.folders("making", write, numbers(seen), root / ".index/index")
            assert values(made) == WANTED
            (folder,) = found.folders("joining", joined, {"0": tuple(made.values())}).values()
            assert (folder / "all").read_text() == "0 1 2"
            assert taken(seen) == ["0", "1", "2"]
        with opened(in_bucket("s3://pairs/d")) as root:  # a later run on another machine
            made = corpus(root).folders("making", write, numbers(seen), root / ".index/index")
            assert values(made) == WANTED
            assert (made["1"] / "below/square").read_text() == "4"
            assert taken(seen) == []
        assert "d/.index/index/0/1/below/square" in content(client, "pairs")
