"""What workers gather of a corpus: kept by content, read again where it is new or damaged, and the same on any pool."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pairloom.errors import RunError
from pairloom.store.folder import Header, open_folder
from pairloom.store.writing import Writer, write_shard
from pipeline.cluster import open_pool
from pipeline.config import RunConfig
from pipeline.corpus import CorpusOnDisk
from pipeline.desk import Desk
from pipeline.pool import Inline
from stages.gathered import opened

NUMBERS = pa.schema([("number", pa.int64())])
SEEN = "seen.txt"  # beside the table: a line for each shard that was read


def write(folder: Path, shards: int, changed: int = -1) -> None:
    writer = Writer.open(folder / "numbers", Header("numbers", 1, "numbers", 1, {}))
    writer.begin([])
    for number in range(shards):
        values = [number, number + 1, -1 if number == changed else number]
        writer.record(write_shard(folder / "numbers", f"{number:05d}", pa.table([pa.array(values)], NUMBERS)))
    writer.finish()


def corpus(folder: Path, pool: Any = Inline) -> CorpusOnDisk:
    desk = Desk("test", pool, folder / "gathered", folder / "room", "version 1", plain=True)
    return CorpusOnDisk({"numbers": open_folder(folder / "numbers")}, desk)


def doubled(table: pa.Table, argument: Path) -> pa.Table:
    with argument.open("a") as file:
        file.write(f"{table['number'][0]}\n")
    return pa.table([pa.array([2 * one for one in table["number"].to_pylist()])], NUMBERS)


def shifted(table: pa.Table, argument: int) -> pa.Table:
    return pa.table([pa.array([one + argument for one in table["number"].to_pylist()])], NUMBERS)


def summed(tables: Iterator[pa.Table], argument: None) -> int:
    return sum(sum(table["number"].to_pylist()) for table in tables)


def deadly(table: pa.Table, argument: None) -> pa.Table:
    if table["number"][0].as_py() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return table


def gather(folder: Path) -> tuple[list[list[int]], list[str]]:
    """(what was gathered of each shard, the shards that were read for it)."""
    (folder / SEEN).write_text("")
    found = corpus(folder)
    files = found.gathered({"numbers": ["number"]}, doubled, folder / SEEN)
    assert found.desk is not None
    found.desk.forget_others()
    return [opened(path)["number"].to_pylist() for path in files.values()], (folder / SEEN).read_text().split()


def test_of_a_table_that_has_grown_what_is_new_is_read_alone(tmp_path: Path) -> None:
    write(tmp_path, 2)
    assert gather(tmp_path) == ([[0, 2, 0], [2, 4, 2]], ["0", "1"])
    assert gather(tmp_path) == ([[0, 2, 0], [2, 4, 2]], [])
    write(tmp_path, 3)
    assert gather(tmp_path) == ([[0, 2, 0], [2, 4, 2], [4, 6, 4]], ["2"])
    write(tmp_path, 2, changed=1)
    assert gather(tmp_path) == ([[0, 2, 0], [2, 4, -2]], ["1"])
    assert len(list((tmp_path / "gathered").iterdir())) == 2


@pytest.mark.parametrize("content", [b"", b"cut"])
def test_a_damaged_file_is_made_again(tmp_path: Path, content: bytes) -> None:
    write(tmp_path, 2)
    wanted, _ = gather(tmp_path)
    sorted((tmp_path / "gathered").iterdir())[0].write_bytes(content)
    again, read = gather(tmp_path)
    assert again == wanted
    assert len(read) == 1


def test_answers_groups_and_calls_are_in_order(tmp_path: Path) -> None:
    write(tmp_path, 3)
    found = corpus(tmp_path)
    files = found.answers({"numbers": ["number"]}, shifted, {"00002": 10, "00000": 5})
    assert {name: opened(path)["number"].to_pylist() for name, path in files.items()} == {
        "00000": [5, 6, 5],
        "00002": [12, 13, 12],
    }
    assert found.answers({"numbers": ["number"]}, shifted, {}) == {}
    assert sum(found.grouped("numbers", ["number"], summed, None)) == 12
    assert list(CorpusOnDisk(found.inputs).grouped("numbers", ["number"], summed, None)) == [12]
    assert found.each("a thing", abs, [-3, 2, -1]) == [3, 2, 1]
    assert found.each("a thing", abs, []) == []


@pytest.mark.slow
def test_a_shard_that_kills_its_worker_each_time_ends_the_run_by_name(tmp_path: Path) -> None:
    write(tmp_path, 3)
    with open_pool(RunConfig(cluster="local", workers=2), 3, "test", lambda: None) as pool:  # type: ignore[arg-type, return-value]
        assert sum(corpus(tmp_path, lambda: pool).grouped("numbers", ["number"], summed, None)) == 12
        with pytest.raises(RunError, match="died 3 times at test-reads-numbers-00001"):
            corpus(tmp_path, lambda: pool).gathered({"numbers": ["number"]}, deadly, None)
