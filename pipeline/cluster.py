"""Run tasks in this process, in local worker processes or on a Dask cluster, behind one small interface."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from multiprocessing import resource_tracker
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

from pairloom.errors import RunError
from pipeline.config import RunConfig

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Died:
    """In place of a result: the worker process died on this task (it was killed, crashed or ran out of memory)."""

    detail: str


class Pool(Protocol):
    """Where tasks run. What a task raises is raised here; a dead worker is a result of its own."""

    def run(self, function: Callable[[T], R], tasks: Iterable[T]) -> Iterator[tuple[T, R | Died]]:
        """(task, its result) as they finish, in any order."""

    def workers(self) -> int:
        """How many processes there are."""


class Inline:
    """Tasks in this process, one after the other or a few in threads; a task that kills its process kills us."""

    def __init__(self, overlap: int = 1) -> None:
        self.overlap = overlap

    def run(self, function: Callable[[T], R], tasks: Iterable[T]) -> Iterator[tuple[T, R | Died]]:
        if self.overlap == 1:
            for task in tasks:
                yield task, function(task)
            return
        waiting, ended = iter(tasks), SimpleQueue[tuple[T, Callable[[], R]]]()
        # Daemons, so that Ctrl-C need not wait for what they wait for.
        running = sum(_start(function, task, ended) for task in islice(waiting, self.overlap))
        while running:
            task, result = ended.get()
            running += sum(_start(function, following, ended) for following in islice(waiting, 1)) - 1
            yield task, result()

    def workers(self) -> int:
        return 1


def _start(function: Callable[[T], R], task: T, ended: SimpleQueue[tuple[T, Callable[[], R]]]) -> int:
    """Run a task in a thread; what it returns or raises comes out of the callable that is put into the queue."""
    future: Future[R] = Future()

    def work() -> None:
        try:
            future.set_result(function(task))
        except BaseException as error:  # noqa: BLE001  # raised again where the result is asked for
            future.set_exception(error)
        ended.put((task, future.result))

    threading.Thread(target=work, daemon=True).start()
    return 1


class DaskPool:
    """Tasks on the workers of a Dask client, as many at a time as there are workers."""

    def __init__(self, client: Any, overlap: int = 1) -> None:
        self.client = client
        self.overlap = overlap

    def run(self, function: Callable[[T], R], tasks: Iterable[T]) -> Iterator[tuple[T, R | Died]]:
        from distributed import as_completed

        waiting = iter(tasks)
        running: dict[Any, T] = {}

        def submit() -> Any:
            for task in waiting:
                # pure=False: a task may be run again on purpose, Dask must not hand out its memory of it
                future = self.client.submit(function, task, pure=False)
                running[future] = task
                return future
            return None

        first = [future for future in (submit() for _ in range(self._width())) if future is not None]
        finished = as_completed(first)
        for future in finished:
            result = _result(future)
            task = running.pop(future)
            future.release()  # or the scheduler would compute it again each time the worker that has its result dies
            if (following := submit()) is not None:
                finished.add(following)
            yield task, result

    def _width(self) -> int:
        # No queue at the workers: when one dies, Dask blames all tasks that wait there too.
        threads = [min(self.overlap, int(worker["nthreads"])) for worker in self._workers().values()]
        return max(1, sum(threads))

    def workers(self) -> int:
        return max(1, len(self._workers()))

    def _workers(self) -> dict[str, Any]:
        known: dict[str, Any] = self.client.scheduler_info(n_workers=-1)["workers"]
        return known


def _result(future: Any) -> Any:
    from distributed import KilledWorker

    try:
        return future.result()
    except KilledWorker as error:
        return Died(str(error))


@contextmanager
def open_pool(run: RunConfig, most: int, overlap: int = 1) -> Iterator[Pool]:
    """The pool that section `run` asks for; `most` is how many tasks there will be at all.

    overlap: tasks that a process may have in work at once, in threads.
    """
    one_thread_a_worker()
    if run.cluster == "inline":
        yield Inline(overlap)
        return
    import dask
    from distributed import Client, LocalCluster

    patience = {
        "distributed.scheduler.allowed-failures": 1,
        "distributed.comm.timeouts.connect": "60s",
        # Dask gives a worker up for good that happens to be away 15 s after it died, while it is being started again.
        "distributed.deploy.lost-worker-timeout": "1h",
    }
    with dask.config.set(patience):
        if run.cluster != "local":
            with _connected(run.cluster) as client:
                yield DaskPool(client, overlap)
            return
        workers = min(run.workers or os.cpu_count() or 1, most)
        with _interrupts_held():
            started = LocalCluster(
                n_workers=workers,
                threads_per_worker=overlap,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",  # any free port: two runs on one machine do not meet
                memory_limit=0,  # stages bound their own memory; Dask's limit would kill a worker on a large shard
                silence_logs=logging.CRITICAL,
            )
        with started as cluster, Client(cluster) as client:
            if len(devices := gpus()) > 1:
                client.run(lambda dask_worker: pick_gpu(int(dask_worker.name), devices))
            yield DaskPool(client, overlap)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back until the workers are there.

    The thread that starts them inherits this mask, and so do they: Ctrl-C is this process's alone, also when a worker
    is started again later. Otherwise each would print a traceback, and Dask can't close half a cluster.
    """
    resource_tracker.ensure_running()  # starting it later would lift the mask of the thread that starts the workers
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _connected(address: str) -> Any:
    """A client of the scheduler. Raises RunError if none answers."""
    from distributed import Client

    try:
        return Client(address, timeout="30s")
    except OSError as error:  # also a time-out
        fix = "start it (`dask scheduler`), correct run.cluster, or leave --cluster out"
        raise RunError(f"no Dask scheduler answers: {error}", address, fix) from error


def gpus() -> list[str]:
    """The numbers of the NVIDIA cards that this process may use, without loading torch."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [number for number in chosen.split(",") if number]
    folder = Path("/proc/driver/nvidia/gpus")
    return [str(number) for number in range(len(list(folder.iterdir())))] if folder.is_dir() else []


def pick_gpu(rank: int, devices: Sequence[str]) -> None:
    """Give this worker process one card, by its rank; before it loads torch. Not tried on a machine with two yet."""
    os.environ["CUDA_VISIBLE_DEVICES"] = devices[rank % len(devices)]


def one_thread_a_worker() -> None:
    """One thread of arithmetic a process, however it runs: sums come out the same, and processes don't fight for cores.

    Must come before torch, numpy or numba start their threads; Dask's own workers have the same setting.
    """
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ.setdefault(name, "1")
