"""Run tasks in this process, in local worker processes or on a Dask cluster, behind one small interface."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

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


class Inline:
    """One task after the other in this process; a task that kills its process kills us."""

    def run(self, function: Callable[[T], R], tasks: Iterable[T]) -> Iterator[tuple[T, R | Died]]:
        for task in tasks:
            yield task, function(task)


class DaskPool:
    """Tasks on the workers of a Dask client, as many at a time as there are workers."""

    def __init__(self, client: Any) -> None:
        self.client = client

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
            if (following := submit()) is not None:
                finished.add(following)
            yield task, result

    def _width(self) -> int:
        # No queue at the workers: when one dies, Dask blames all tasks that wait there too.
        return max(1, len(self.client.scheduler_info(n_workers=-1)["workers"]))


def _result(future: Any) -> Any:
    from distributed import KilledWorker

    try:
        return future.result()
    except KilledWorker as error:
        return Died(str(error))


@contextmanager
def open_pool(run: RunConfig, most: int) -> Iterator[Pool]:
    """The pool that section `run` asks for; `most` is how many tasks there will be at all."""
    one_thread_a_worker()
    if run.cluster == "inline":
        yield Inline()
        return
    import dask
    from distributed import Client, LocalCluster

    quiet = {"distributed.scheduler.allowed-failures": 1, "distributed.comm.timeouts.connect": "60s"}
    with dask.config.set(quiet):
        if run.cluster != "local":
            with Client(run.cluster, timeout="30s") as client:
                yield DaskPool(client)
            return
        workers = min(run.workers or os.cpu_count() or 1, most)
        with (
            LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                host="127.0.0.1",
                dashboard_address=None,
                memory_limit=0,  # stages bound their own memory; Dask's limit would kill a worker on a large shard
                silence_logs=logging.CRITICAL,
            ) as cluster,
            Client(cluster) as client,
        ):
            if len(devices := gpus()) > 1:
                client.run(lambda dask_worker: pick_gpu(int(dask_worker.name), devices))
            yield DaskPool(client)


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
