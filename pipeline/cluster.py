"""Open the pool that section `run` asks for: this process, local worker processes, or a Dask cluster by its address."""

from __future__ import annotations

import importlib
import logging
import os
import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import Any

from pairloom.errors import RunError
from pipeline.cards import gpus, one_thread_a_worker, pick_gpu
from pipeline.config import RunConfig
from pipeline.crew import Crew, Greeter, Worker, pickled
from pipeline.dask_pool import DaskPool
from pipeline.pool import Inline, Pool
from pipeline.progress import say
from pipeline.stalls import Patience, Watch

CONNECT_S = 30.0  # for a scheduler to answer
IMPATIENT = Patience(file_s=0.0)  # on one machine a file is seen at once


@contextmanager
def open_pool(
    run: RunConfig,
    most: int,
    title: str,
    greeter: Callable[[], Greeter],
    overlap: int = 1,
    wants_gpu: bool = False,
) -> Iterator[Pool]:
    """The pool that section `run` asks for. `most` is how many tasks there will be at all.

    title: of the work, in messages. greeter: of the workers of a cluster that is not ours. overlap: tasks that a
    process may have in work at once, in threads. wants_gpu: whether they go to workers that declare a GPU, if any does.
    """
    one_thread_a_worker()
    if run.cluster == "inline":
        yield Inline(overlap)
        return
    import dask
    import distributed  # noqa: F401  # before the settings, or its own would go with them at the end of the block

    settings = {
        "distributed.comm.timeouts.connect": "60s",
        # Dask gives a worker up for good that happens to be away 15 s after it died, while it is being started again.
        "distributed.deploy.lost-worker-timeout": "1h",
    }
    with dask.config.set(settings):
        if run.cluster != "local":
            patience = Patience().at_most(run.patience_s)
            with _connected(run.cluster, min(run.patience_s, CONNECT_S)) as client, _quiet():
                say(f"{title}: cluster {run.cluster}, dashboard {client.dashboard_link}")
                crew = Crew(client, greeter(), wants_gpu)
                yield DaskPool(client, crew, Watch(title, run.cluster, patience), overlap)
            return
        workers = min(run.workers or os.cpu_count() or 1, most)
        with _local(workers, overlap, run.dashboard) as client, _quiet():
            if run.dashboard:
                say(f"{title}: dashboard {client.dashboard_link}")
            devices = gpus()
            cards = CardDealer(devices) if len(devices) > 1 else None
            yield DaskPool(client, Crew(client, cards), Watch(title, "local", IMPATIENT), overlap)


class CardDealer:
    """Gives each worker of a local cluster a card by its number, also one that is started again."""

    def __init__(self, devices: Sequence[str]) -> None:
        self.devices = devices

    def call(self, worker: Worker) -> bytes:
        return pickled(pick_gpu, int(worker.name), self.devices)

    def judge(self, answer: None) -> str | None:
        return ""


@contextmanager
def _local(workers: int, threads: int, dashboard: bool) -> Iterator[Any]:
    """A client of as many processes on this machine. Raises ModuleNotFoundError for a dashboard without bokeh."""
    from distributed import Client, LocalCluster

    if dashboard:
        importlib.import_module("bokeh")  # without it Dask serves a page that asks for it
    with _interrupts_held():
        started = LocalCluster(
            n_workers=workers,
            threads_per_worker=threads,
            host="127.0.0.1",
            # Any free port: two runs on one machine do not meet. Without an address Dask takes 8787 of every interface
            # for its metrics, also where it starts no dashboard, which takes a second.
            dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"dashboard": dashboard},
            memory_limit=0,  # stages bound their own memory. Dask's limit would kill a worker on a large shard
            silence_logs=logging.CRITICAL,
        )
    with started as cluster, Client(cluster) as client:
        yield client


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


@contextmanager
def _quiet() -> Iterator[None]:
    """What Dask logs of lost connections is said by us, with what to do. Each of its loggers has a level of its own."""
    names = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] == "distributed"]
    loggers = [logging.getLogger(name) for name in (*names, "tornado.application", "asyncio")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def _connected(address: str, seconds: float) -> Any:
    """A client of the scheduler. Raises RunError if none answers for so many seconds."""
    from distributed import Client
    from distributed.versions import VersionMismatchWarning

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", VersionMismatchWarning)  # the greeting finds what differs where it matters
            return Client(address, timeout=seconds)
    except (OSError, ValueError, ImportError) as error:  # also a time-out, an unknown protocol, another Dask
        fix = "start it (`dask scheduler`), correct run.cluster, or leave --cluster out"
        raise RunError(f"no Dask scheduler answers: {error}", address, fix) from error
