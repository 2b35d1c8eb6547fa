"""Progress inside a shard: what tasks say in this process, in worker processes and on a Dask cluster."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pairloom.store.folder import open_folder
from pipeline import log, progress
from pipeline.config import RunConfig
from pipeline.crew import Crew
from pipeline.dask_pool import DaskPool
from pipeline.executor import Options, run_stage
from pipeline.log import Log
from pipeline.pool import Inline
from pipeline.progress import Progress
from pipeline.stalls import Patience, Watch
from stages import rows_done
from tests.pipeline.clusters import Cluster
from tests.pipeline.helpers import cluster_of, hashes, write_texts
from tests.pipeline.words import Config

STAGE = "tests.pipeline.words"
ROWS = 20


@dataclass(frozen=True)
class Rows:
    """A task of so many rows."""

    label: str
    rows: int = ROWS
    wait_s: float = 0.05


def slowly(task: Rows) -> int:
    with rows_done.current().call(task.rows):
        for _ in range(task.rows):
            time.sleep(task.wait_s)
            rows_done.add()
    return task.rows


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports, lines and events as often as rows."""
    monkeypatch.setattr(rows_done, "EVERY_S", 0.0)
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.0)
    monkeypatch.setattr(log, "EVERY_S", 0.0)


@contextmanager
def local() -> Iterator[tuple[Any, DaskPool]]:
    from distributed import Client

    with (
        cluster_of(1) as started,
        Client(started) as client,
    ):
        yield client, DaskPool(client, Crew(client), Watch("rows", "local", Patience(line_s=0.9)))


def test_worker_processes_report_the_rows_of_tasks_that_are_not_finished(capsys: pytest.CaptureFixture[str]) -> None:
    said: dict[str, list[float]] = {"rows-00000": [], "rows-00001": []}
    keys: set[str] = set()
    with local() as (client, pool):

        def heard(task: Rows, rows: float) -> None:
            if not any(said.values()):
                capsys.readouterr()  # of the time before the first row
            said[task.label].append(rows)
            keys.update(key for given in client.processing().values() for key in given)

        tasks = [Rows(label, wait_s=0.1) for label in said]
        done = [result for _, result in pool.run(slowly, deque(tasks), heard=heard)]
        assert done == [ROWS, ROWS]
        for rows in said.values():
            assert len(rows) >= 2
            assert rows == sorted(set(rows))
            assert 0 < rows[0] < ROWS
        assert {key.rpartition("-")[0] for key in keys} == set(said)  # tasks have the names of stage and shard
        assert "no shard finished" not in capsys.readouterr().err  # while rows move

        before = {label: len(rows) for label, rows in said.items()}
        client.unsubscribe_topic(pool._topic)  # from here on every report is lost
        assert [result for _, result in pool.run(slowly, deque(tasks), heard=heard)] == [ROWS, ROWS]
        late = {label: len(rows) - before[label] for label, rows in said.items()}
        assert all(count <= 1 for count in late.values())  # what was on its way
        assert "rows: no shard finished for" in capsys.readouterr().err


@pytest.mark.parametrize("overlap", [1, 3])
def test_tasks_in_this_process_report_each_row(overlap: int) -> None:
    said: dict[str, list[float]] = {"a": [], "b": [], "c": []}
    tasks = deque(Rows(label, wait_s=0.0) for label in said)
    pool = Inline(overlap)
    found = list(pool.run(slowly, tasks, heard=lambda task, rows: said[task.label].append(rows)))
    assert [result for _, result in found] == [ROWS] * 3
    assert said == {label: list(range(1, ROWS + 1)) for label in said}


def events(file: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return [event for event in found if event["event"] == "progress"]


def test_a_stage_moves_inside_its_shard_on_a_cluster_and_its_workers_say_what_they_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = ["reject" if number % 5 == 0 else f"text {number}" for number in range(8)]
    for name in ("far", "near"):
        write_texts(texts, tmp_path / name)
    with Cluster(tmp_path) as cluster:
        cluster.worker()
        file = tmp_path / "far.jsonl"
        options = Options(RunConfig(cluster=cluster.address), plain=True, log=Log(file))
        done = run_stage(STAGE, Config(wait_s=0.25), tmp_path / "far", options)
        found = events(file)
        assert done.counts.rejected == {"no-caption": 2}
        inside = [event["done"] for event in found]
        assert inside == sorted(inside)
        assert set(inside) - {4, 8}  # shards have four rows: these stood between them
        assert [(event["done"], event["kept"], event["left_out"]) for event in found][-1] == (8, 6, 2)
        last = capsys.readouterr().err.splitlines()[-1]
        assert last.startswith("words: 8/8 rows")
        assert last.endswith("6 kept, 2 left out")
        figures = on_dashboard(cluster.address)
        assert (figures["pairloom stage"], figures["rows kept"], figures["rows left out"]) == ("words", 6, 2)
        assert 0 < figures["rows per second"] < 4.1  # a row takes a quarter of a second
    run_stage(STAGE, Config(wait_s=0.25), tmp_path / "near", Options(RunConfig(cluster="inline"), plain=True))
    assert hashes(tmp_path / "far/words") == hashes(tmp_path / "near/words")


def on_dashboard(address: str) -> dict[str, Any]:
    """What the scheduler knows of its one worker, when a heartbeat has brought it."""
    from distributed import Client

    deadline = time.monotonic() + 30
    with Client(address) as client:
        while time.monotonic() < deadline:
            (worker,) = client.scheduler_info()["workers"].values()
            if worker["metrics"].get("rows kept", 0) == 6:
                return dict(worker["metrics"])
            time.sleep(0.1)
    raise AssertionError("the worker's figures did not come")


def test_a_log_that_cannot_be_written_ends_the_run_and_costs_no_row(tmp_path: Path) -> None:
    write_texts(["one", "two", "three"], tmp_path / "data")
    (tmp_path / "log").mkdir()
    options = Options(RunConfig(cluster="inline"), plain=True, log=Log(tmp_path / "log"))  # it is a folder
    with pytest.raises(OSError, match="directory"):
        run_stage(STAGE, Config(), tmp_path / "data", options)
    run_stage(STAGE, Config(), tmp_path / "data", Options(RunConfig(cluster="inline"), plain=True))
    assert open_folder(tmp_path / "data/words").rows == 3
    assert open_folder(tmp_path / "data/quarantine/words").rows == 0


def test_rows_under_way_are_shown_and_never_taken_back(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("words", 10, plain=True) as shown:
        shown.under_way("a", 3.5)
        shown.under_way("b", 2)
        shown.ended("a")  # its worker died
        shown.under_way("a", 1)
        shown.ended("a")
        shown.advance(5)
        shown.ended("b")
        shown.advance(5)
    counts = [int(line.split()[1].partition("/")[0]) for line in capsys.readouterr().err.splitlines()]
    assert counts == [3, 5, 5, 7, 10]
