"""The pool on a real Dask cluster: workers that come later, die, lack memory or a GPU, and a scheduler that goes."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from pairloom.errors import MachineError, RunError
from pipeline.config import RunConfig
from pipeline.crew import Crew, Worker, pickled
from pipeline.dask_pool import DaskPool
from pipeline.executor import Options, run_stage
from pipeline.pool import Died
from pipeline.stalls import Patience, Watch
from tests.pipeline.clusters import Cluster
from tests.pipeline.helpers import cluster_of, hashes, write_texts
from tests.pipeline.words import Config

STAGE = "tests.pipeline.words"
OTHER = "PAIRLOOM_TEST_OTHER"  # variable of workers that differ
INLINE = Options(RunConfig(cluster="inline"), plain=True)


@dataclass(frozen=True)
class Sleep:
    """A task that takes so long."""

    label: str
    seconds: float = 0.0
    die: bool = False
    full: bool = False


def sleep(task: Sleep) -> int:
    """The number of the process that slept."""
    time.sleep(task.seconds)
    if task.die:
        os.kill(os.getpid(), signal.SIGKILL)
    if task.full:
        raise MachineError("no space left", task.label, "free some")
    return os.getpid()


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One for all tests but the one that ends it."""
    with Cluster(tmp_path_factory.mktemp("scheduler")) as started:
        yield started


@pytest.fixture
def cluster(scheduler: Cluster) -> Iterator[Cluster]:
    """Without workers."""
    yield scheduler
    scheduler.end_workers()


class Sorting:
    """Refuses workers that were started as others."""

    def call(self, worker: Worker) -> bytes:
        return pickled(os.getenv, OTHER)

    def judge(self, answer: str | None) -> str:
        return "it is another" if answer else ""


@contextmanager
def pool_on(
    cluster: Cluster, patience: Patience | None = None, wants_gpu: bool = False, overlap: int = 1
) -> Iterator[DaskPool]:
    from distributed import Client

    with Client(cluster.address) as client:
        watch = Watch("sleep", cluster.address, patience or Patience())
        yield DaskPool(client, Crew(client, Sorting(), wants_gpu=wants_gpu), watch, overlap)


def tasks(count: int, seconds: float = 0.0) -> deque[Sleep]:
    return deque(Sleep(f"sleep-{number:05d}", seconds) for number in range(count))


def test_workers_that_come_later_are_used_and_those_that_die_cost_a_task_each(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    """One life of a cluster: none yet, one, two and one that differs, a deadly task, a full disk, and at last none."""
    patience = Patience(line_s=0.3, gone_s=0.5)
    started: list[subprocess.Popen[bytes]] = []
    with pool_on(cluster, patience) as pool:
        late = threading.Timer(1.0, lambda: started.append(cluster.worker()))
        late.start()
        seen: list[int] = []
        given = tasks(4, 0.1)
        for _, pid in pool.run(sleep, given):
            assert isinstance(pid, int)
            seen.append(pid)
            if len(seen) == 1:
                started.append(cluster.worker())
                other = cluster.worker(prefix=["env", f"{OTHER}=1"])
            # they take a while to start
            if (len(set(seen)) == 1 or not pool.crew.refused) and len(seen) < 600:
                given.append(Sleep(f"more-{len(seen)}", 0.1))
        assert set(seen) == {process.pid for process in started}
        assert pool.workers() == 2
        said = capsys.readouterr().err
        assert said.count("no workers yet; start some with `dask worker tcp://") >= 2  # again and again
        assert said.count("not used: tcp://") == said.count(": it is another") == 1
        os.killpg(other.pid, signal.SIGKILL)

        deadly = deque([Sleep("sleep-deadly", die=True), *tasks(10, 0.05)])
        ended = {task.label: result for task, result in pool.run(sleep, deadly)}
        assert [label for label, result in ended.items() if isinstance(result, Died)] == ["sleep-deadly"]
        assert len(ended) == 11

        cluster.worker()
        full = deque([Sleep("sleep-full", full=True)])
        wait_for_workers(pool, 2)
        with pytest.raises(MachineError, match="no space left"):
            list(pool.run(sleep, full))
        assert capsys.readouterr().err.count("not used any more: tcp://") == 2


@dataclass(frozen=True)
class Held:
    """A task that begins, and ends when it is let go."""

    label: str
    folder: Path


def begin_and_wait(task: Held) -> None:
    (task.folder / task.label).touch()
    while not (task.folder / "go").exists():
        time.sleep(0.01)


def test_a_worker_has_a_task_for_each_thread_and_two_more_that_wait(cluster: Cluster, tmp_path: Path) -> None:
    cluster.worker("--nthreads", "2")
    given = deque(Held(f"held-{number}", tmp_path) for number in range(6))
    with pool_on(cluster, overlap=2) as pool:
        ended: list[object] = []
        running = threading.Thread(target=lambda: ended.extend(pool.run(begin_and_wait, given)))
        running.start()
        while len(begun := sorted(path.name for path in tmp_path.iterdir())) < 2:
            assert running.is_alive()
            time.sleep(0.01)
        (there,) = pool.client.processing().values()
        assert sorted(key[:6] for key in there) == ["held-0", "held-1", "held-2", "held-3"]  # as the dashboard has them
        assert begun == ["held-0", "held-1"]
        (tmp_path / "go").touch()
        running.join()
    assert len(ended) == 6


def pids(ended: Iterable[tuple[Sleep, int | Died]]) -> list[int]:
    return [result for _, result in ended if isinstance(result, int)]


def wait_for_workers(pool: DaskPool, count: int) -> None:
    pool.client.wait_for_workers(count, timeout=60)


def test_an_adaptive_cluster_starts_its_workers_for_the_tasks_that_wait() -> None:
    from distributed import Client

    with (
        cluster_of(0) as started,
        Client(started) as client,
    ):
        started.adapt(minimum=0, maximum=1, interval="100ms")
        pool = DaskPool(client, Crew(client), Watch("sleep", "local"))
        assert len(list(pool.run(sleep, tasks(4)))) == 4


def test_work_for_a_gpu_goes_to_workers_that_declare_one_and_other_work_to_the_others(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    with_gpu = cluster.worker("--resources", "GPU=1", "--nthreads", "2")
    without = cluster.worker("--nthreads", "2")
    with pool_on(cluster, wants_gpu=True) as gpu_pool, pool_on(cluster) as pool:
        wait_for_workers(pool, 2)
        beside: list[int] = []
        other = threading.Thread(target=lambda: beside.extend(pids(pool.run(sleep, tasks(8, 0.05)))))
        other.start()
        start = time.monotonic()
        used = set(pids(gpu_pool.run(sleep, tasks(8, 0.1))))
        assert time.monotonic() - start > 0.7  # one at a time, although the worker has two threads
        other.join()
    assert used == {with_gpu.pid}
    assert set(beside) == {without.pid}
    assert capsys.readouterr().err.count("1 workers have 2 threads, of which a process uses 1: start more") == 1


def test_a_deadly_row_on_workers_that_nobody_starts_again_ends_the_run(cluster: Cluster, tmp_path: Path) -> None:
    write_texts(["a", "die", "b"], tmp_path / "data")
    cluster.worker()
    cluster.worker()
    options = Options(RunConfig(cluster=cluster.address, patience_s=1), plain=True)
    with pytest.raises(RunError, match="all workers that could be used have gone") as caught:
        run_stage(STAGE, Config(), tmp_path / "data", options)
    assert "--no-nanny" in str(caught.value)


@pytest.mark.slow
def test_how_often_the_scheduler_allows_a_failure_changes_nothing(tmp_path: Path) -> None:
    """Deaths are counted here: a row that kills its workers is found, be it with none allowed or with a hundred."""
    found = []
    for allowed in ("0", "100"):
        folder = tmp_path / allowed
        folder.mkdir()
        with Cluster(folder, settings={"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": allowed}) as cluster:
            for _ in range(2):
                cluster.worker(nanny=True)
            write_texts(["a", "die", *(f"text {row}" for row in range(10))], folder / "data")
            done = run_stage(STAGE, Config(), folder / "data", Options(RunConfig(cluster=cluster.address), plain=True))
        assert dict(done.counts.rejected) == {"worker-died": 1}
        assert done.counts.rows_out == 11
        found.append(hashes(folder / "data"))
    assert found[0] == found[1]


def test_workers_that_have_too_little_memory_for_anything_end_the_run(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.worker("--memory-limit", "40MB")
    with (
        pool_on(cluster, Patience(line_s=0.5, paused_s=1)) as pool,
        pytest.raises(RunError, match="every worker is paused") as caught,
    ):
        list(pool.run(sleep, tasks(2)))
    assert "larger --memory-limit" in str(caught.value)
    assert "every worker is paused: memory is near the limit of 0.037 GiB on tcp://" in capsys.readouterr().err


def test_a_worker_that_is_killed_and_replaced_changes_no_byte(cluster: Cluster, tmp_path: Path) -> None:
    texts, config = [f"text {row}" for row in range(32)], Config(wait_s=0.03)
    for data in (tmp_path / "one", tmp_path / "data"):
        write_texts(texts, data)
    first, _ = cluster.worker(), cluster.worker()

    def replace() -> None:
        wait_for_a_shard(tmp_path / "data/words")
        first.kill()
        cluster.worker()

    replacing = threading.Thread(target=replace)
    replacing.start()
    run_stage(STAGE, config, tmp_path / "data", Options(RunConfig(cluster=cluster.address), plain=True))
    replacing.join()
    run_stage(STAGE, config, tmp_path / "one", INLINE)
    assert hashes(tmp_path / "data") == hashes(tmp_path / "one")


def test_a_scheduler_that_goes_is_one_error_and_the_run_is_finished_on_another(tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster:
        loses_its_scheduler(cluster, tmp_path)


def loses_its_scheduler(cluster: Cluster, tmp_path: Path) -> None:
    texts, config = [f"text {row}" for row in range(20)], Config(wait_s=0.05)
    write_texts(texts, tmp_path / "data")
    cluster.worker()
    options = Options(RunConfig(cluster=cluster.address, patience_s=1), plain=True)
    threading.Thread(target=kill_when_begun, args=(cluster, tmp_path / "data/words")).start()
    with pytest.raises(RunError, match="scheduler is gone"):
        run_stage(STAGE, config, tmp_path / "data", options)
    assert list((tmp_path / "data/words").glob("*.parquet"))
    write_texts(texts, tmp_path / "one")
    for data in (tmp_path / "one", tmp_path / "data"):
        run_stage(STAGE, config, data, INLINE)
    assert hashes(tmp_path / "data") == hashes(tmp_path / "one")


def kill_when_begun(cluster: Cluster, table: Path) -> None:
    wait_for_a_shard(table)
    cluster.scheduler.kill()


def wait_for_a_shard(table: Path) -> None:
    while not list(table.glob("*.parquet")):
        time.sleep(0.02)
