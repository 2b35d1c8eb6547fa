"""Reuse of another dataset: equal shards are linked once their bytes are verified, all else is made."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pairloom.store import index
from pairloom.store.folder import JOURNAL, MANIFEST, open_folder
from pairloom.store.verify import verify
from pipeline.config import RunConfig
from pipeline.executor import Done, Options, run_stage
from stages import shards
from tests.inspection.synthetic import make_dataset
from tests.pipeline import shares
from tests.pipeline.helpers import hashes, write_texts
from tests.pipeline.words import Config

HERE = Path(__file__).resolve().parents[2]
STAGE = "tests.pipeline.words"
TEXTS = ["a", "bb", "reject", "cccc", "dd", "raise", "e", "f", "gg", "h"]  # shards of 4, 4 and 2


def run(data: Path, other: Path | None, config: Any = Config(), stage: str = STAGE, redo: bool = False) -> Done:  # noqa: B008  # it is frozen
    reuse = None if other is None else str(other)
    return run_stage(stage, config, data, Options(RunConfig(cluster="inline", reuse=reuse), redo=redo, plain=True))


@pytest.fixture
def first(tmp_path: Path) -> Path:
    """A finished dataset."""
    write_texts(TEXTS, tmp_path / "first")
    run(tmp_path / "first", None)
    return tmp_path / "first"


@pytest.fixture
def second(tmp_path: Path) -> Path:
    """The same list in a dataset of its own."""
    write_texts(TEXTS, tmp_path / "second")
    return tmp_path / "second"


def linked(first: Path, second: Path) -> set[str]:
    """The files of the second dataset's tables that are files of the first."""
    files = [
        file.relative_to(second) for file in sorted(second.glob("words/*")) + sorted(second.glob("quarantine/*/*"))
    ]
    return {str(file) for file in files if (first / file).exists() and (first / file).samefile(second / file)}


def test_equal_shards_and_their_rejects_are_linked_instead_of_made(first: Path, second: Path) -> None:
    done = run(second, first)
    assert (done.made, done.reused, done.shards) == (0, 3, 3)
    assert done.counts.rejected == {"no-caption": 1, "stage-error": 1}
    shards = {f"words/{number:05d}.parquet" for number in range(3)}
    assert linked(first, second) == shards | {"quarantine/words/00000.parquet", "quarantine/words/00001.parquet"}
    for table in ("words", "quarantine/words"):
        assert hashes(second / table) == hashes(first / table)
    again = run(second, first)
    assert (again.made, again.reused) == (0, 0)


def test_only_what_the_other_has_is_reused(first: Path, tmp_path: Path) -> None:
    data = tmp_path / "longer"
    write_texts([*TEXTS[:8], "another", "end"], data)
    done = run(data, first)
    assert (done.made, done.reused) == (1, 2)
    write_texts([*TEXTS[:8], "another", "end"], tmp_path / "alone")
    run(tmp_path / "alone", None)
    assert hashes(data / "words") == hashes(tmp_path / "alone/words")


def test_shards_of_other_settings_are_made(first: Path, second: Path) -> None:
    assert (run(second, first, Config(times=2)).reused, linked(first, second)) == (0, set())


def test_shards_of_an_unfinished_table_are_reused_too(first: Path, second: Path) -> None:
    manifest = (first / f"words/{MANIFEST}").read_bytes()
    (first / "words/00002.parquet").unlink()
    run(first, None)  # leaves the same manifest. So it can be turned into a journal that misses the last shard
    assert (first / f"words/{MANIFEST}").read_bytes() == manifest
    unfinished(first / "words", 2)
    done = run(second, first)
    assert (done.made, done.reused) == (1, 2)


def unfinished(table: Path, shards: int) -> None:
    """Leave the table as a run that was killed after so many shards."""
    content = json.loads((table / MANIFEST).read_text(encoding="utf-8"))
    entries = content.pop("shards")[:shards]
    lines = [json.dumps(line) for line in (content, *entries)]
    (table / JOURNAL).write_text("\n".join(lines) + '\n{"name": "000', encoding="utf-8")
    (table / MANIFEST).unlink()


@pytest.mark.parametrize("file", ["words/00000.parquet", "quarantine/words/00000.parquet"])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_a_damaged_shard_is_not_trusted(first: Path, second: Path, file: str, damage: str) -> None:
    before = hashes(first)
    content = (first / file).read_bytes()
    (first / file).unlink()
    if damage != "remove":
        flipped = bytes([*content[:40], content[40] ^ 1, *content[41:]])
        (first / file).write_bytes(flipped if damage == "flip" else content[:-9])
    done = run(second, first)
    assert (done.made, done.reused) == (1, 2)
    for table in ("words", "quarantine/words"):
        assert verify(second / table) == []
        assert hashes(second / table) == {
            name.removeprefix(f"{table}/"): value for name, value in before.items() if name.startswith(f"{table}/")
        }


def test_a_shard_whose_rejects_are_not_listed_is_made(first: Path, second: Path) -> None:
    shutil.rmtree(first / "quarantine")
    done = run(second, first)
    assert (done.made, done.reused) == (2, 1)
    assert open_folder(second / "quarantine/words").rows == 2


def test_remaking_one_datasets_shards_leaves_the_others_bytes_alone(first: Path, second: Path) -> None:
    run(second, first)
    of_first = hashes(first)
    assert run(second, None, Config(times=2), redo=True).made == 3
    assert hashes(first) == of_first
    run(second, first, redo=True)
    of_second = hashes(second)
    assert run(first, None, Config(times=3), redo=True).made == 3
    assert hashes(second) == of_second
    assert verify(second / "words") == []


def test_shards_come_back_from_the_other_when_a_setting_is_set_back(first: Path, second: Path) -> None:
    run(second, None, Config(times=2))
    done = run(second, first, redo=True)
    assert (done.made, done.reused) == (0, 3)
    assert hashes(second / "words") == hashes(first / "words")


def test_without_hard_links_shards_are_copied(first: Path, second: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError(errno.EXDEV, "another file system", str(source))

    monkeypatch.setattr(os, "link", refuse)
    assert run(second, first).reused == 3
    assert linked(first, second) == set()
    assert hashes(second / "words") == hashes(first / "words")


def test_a_shard_that_is_a_symbolic_link_gives_its_file_and_not_the_link(first: Path, second: Path) -> None:
    kept = first.parent / "cache"
    (first / "words/00000.parquet").rename(kept)
    (first / "words/00000.parquet").symlink_to(kept)
    assert run(second, first).reused == 3
    assert not (second / "words/00000.parquet").is_symlink()
    assert (second / "words/00000.parquet").samefile(kept)


def test_a_crash_between_link_and_journal_is_mended_by_the_same_command(first: Path, second: Path) -> None:
    run(second, first)
    unfinished(second / "words", 1)
    done = run(second, first)
    assert (done.made, done.reused) == (0, 2)
    for table in ("words", "quarantine/words"):
        assert hashes(second / table) == hashes(first / table)


@pytest.mark.crash
def test_killed_while_it_links_it_finishes_with_equal_bytes(tmp_path: Path) -> None:
    texts = [f"text {row}" for row in range(1200)]
    for name in ("first", "second"):
        write_texts(texts, tmp_path / name)
    run(tmp_path / "first", None)
    (tmp_path / "params.yaml").write_text(f"run: {{cluster: inline, reuse: {tmp_path / 'first'}}}\n", encoding="utf-8")
    options = [
        "--params",
        str(tmp_path / "params.yaml"),
        "--metrics",
        str(tmp_path),
        "--data",
        str(tmp_path / "second"),
    ]
    command = [sys.executable, "-m", "pipeline.cli", "stage", STAGE, *options]
    process = subprocess.Popen(command, cwd=HERE, stderr=subprocess.DEVNULL)
    journal, deadline = tmp_path / f"second/words/{JOURNAL}", time.monotonic() + 60
    while time.monotonic() < deadline and not (journal.exists() and journal.read_bytes().count(b"\n") > 3):
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait(30)
    assert len(open_folder(tmp_path / "second/words").shards) >= 3
    assert not open_folder(tmp_path / "second/words").complete
    assert subprocess.run(command, cwd=HERE, capture_output=True, check=False).returncode == 0
    assert hashes(tmp_path / "second/words") == hashes(tmp_path / "first/words")


def test_an_index_of_the_whole_corpus_is_linked_where_a_shard_must_be_made(first: Path, second: Path) -> None:
    stage, config = "tests.pipeline.shares", shares.Config()
    run(first, None, config, stage)
    (first / "shares/00001.parquet").unlink()
    done = run(second, first, config, stage)
    assert (done.made, done.reused) == (1, 2)
    (old,), (new,) = [[*(data / ".index/shares").iterdir()] for data in (first, second)]
    assert (new / "deep" / shares.TOTAL).samefile(old / "deep" / shares.TOTAL)
    assert not (new / "made.sha256").samefile(old / "made.sha256")  # this one is written in place
    run(first, None, config, stage)
    assert hashes(first / "shares") == hashes(second / "shares")


@pytest.mark.parametrize("damage", ["other bytes", "remove"])
def test_a_damaged_index_is_built_anew(first: Path, second: Path, damage: str) -> None:
    stage, config = "tests.pipeline.shares", shares.Config()
    run(first, None, config, stage)
    before = hashes(first / "shares")
    (first / "shares/00001.parquet").unlink()
    (old,) = (first / ".index/shares").iterdir()
    (old / "deep" / shares.TOTAL).unlink()
    if damage != "remove":
        (old / "deep" / shares.TOTAL).write_text("9", encoding="utf-8")
    assert run(second, first, config, stage).reused == 2
    assert hashes(second / "shares") == before


def test_the_index_is_not_built_where_every_shard_is_reused(first: Path, second: Path) -> None:
    run(first, None, shares.Config(), "tests.pipeline.shares")
    assert run(second, first, shares.Config(), "tests.pipeline.shares").reused == 3
    assert not (second / ".index/shares").exists()


def test_training_shards_come_with_the_index_beside_them(tmp_path: Path) -> None:
    one, two = make_dataset(tmp_path / "one"), make_dataset(tmp_path / "two")
    run(one, None, shards.Config(), "shards", redo=True)
    before = hashes(one / "shards")
    names = [entry.name for entry in open_folder(one / "shards").shards]
    damaged = one / "shards" / index.name_of(names[0])
    damaged.write_bytes(damaged.read_bytes()[:-50])
    shutil.rmtree(two / "shards", ignore_errors=True)
    assert run(two, one, shards.Config(), "shards").reused == len(names)
    assert hashes(two / "shards") == before
