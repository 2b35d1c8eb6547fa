"""Processes that make batches ahead of time, and hand them over in shared memory without a copy.

Until the workers are up, batches are made where they are asked for: a batch is a function of its step, whoever makes
it, so the first one need not wait for an interpreter to start. A worker that dies is noticed at once.
"""

from __future__ import annotations

import mmap
import multiprocessing
import os
import pickle
import selectors
import sys
import weakref
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing import reduction
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from pairloom.errors import RunError
from pairloom.loader.buffers import Buffers
from pairloom.loader.jobs import Job, Made, Maker
from pairloom.loader.parcel import unpacked
from pairloom.loader.worker import work
from pairloom.table import Array

SILENT_S = 60.0  # after which a worker that makes the next batch is named


class TracebackOfWorkerError(Exception):
    """The cause of an error that a worker raised: its own traceback, as text."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def made_here(maker: Maker, first: int) -> Iterator[Made]:
    """The batches from step `first` on, made in this process."""
    buffers = Buffers()
    return (maker(job, buffers.empty) for job in maker.jobs(first))


@dataclass
class Worker:
    """A worker process as the main process sees it."""

    process: Any
    connection: Connection
    ready: bool = False
    jobs: dict[int, Job] = field(default_factory=dict)  # in work, by their steps
    slots: dict[int, mmap.mmap] = field(default_factory=dict)
    released: list[int] = field(default_factory=list)  # slots whose batches are gone, sent with the next job


class WorkerPool:
    """Worker processes, and the batches that they finished before their turn."""

    def __init__(self, maker: Maker, first: int, workers: int, ahead: int = 2) -> None:
        self.ahead = ahead
        self.maker, self.jobs = maker, maker.jobs(first)
        self.due: deque[int] = deque()  # steps in work or made, in their order
        self.made: dict[int, Made] = {}
        self.buffers = Buffers()
        context = multiprocessing.get_context("spawn")  # forking a process that has threads may hang
        self.workers = [_start(context, maker) for _ in range(workers)]
        self.selector = selectors.DefaultSelector()  # kept: multiprocessing's `wait` makes one each time
        for worker in self.workers:
            self.selector.register(worker.connection, selectors.EVENT_READ, worker)
            self.selector.register(worker.process.sentinel, selectors.EVENT_READ, worker)

    def __iter__(self) -> Iterator[Made]:
        while True:
            self.listen(0)
            self._hand_out()
            if not self.due:  # so no worker is up
                job = self._next()
                self.made[job.step] = self.maker(job, self.buffers.empty)
            while self.due[0] not in self.made:
                if not self.listen(SILENT_S):
                    self._name_silent(self.due[0])
                self._hand_out()
            yield self.made.pop(self.due.popleft())

    def _next(self) -> Job:
        job = next(self.jobs)
        self.due.append(job.step)
        return job

    def _name_silent(self, step: int) -> None:
        for worker in self.workers:
            if step in worker.jobs:
                said = f"loader: worker {worker.process.pid} has not answered for {SILENT_S:.0f} s, with step {step}"
                print(said, file=sys.stderr, flush=True)

    def _hand_out(self) -> None:
        """Give jobs to the workers: `ahead` for each in all, whether in work or made and waiting for their turn."""
        for _ in range(self.ahead):
            for worker in self.workers:
                if len(self.due) >= self.ahead * len(self.workers):
                    return
                if worker.ready and len(worker.jobs) < self.ahead:
                    released, worker.released[:] = worker.released.copy(), []
                    job = self._next()
                    worker.jobs[job.step] = job
                    try:
                        # less work for this process than `send`
                        worker.connection.send_bytes(pickle.dumps((job, released), pickle.HIGHEST_PROTOCOL))
                    except ConnectionError as error:
                        raise _died(worker) from error

    def listen(self, timeout: float) -> bool:
        """Receive what workers have sent. Returns whether there was anything. timeout: seconds to wait for it."""
        found = [key for key, _ in self.selector.select(timeout)]
        for key in found:
            if key.fileobj is key.data.connection:
                self._take(key.data)
        for key in found:
            if key.fileobj is not key.data.connection and not key.data.connection.poll():
                raise _died(key.data)
        return bool(found)

    def _take(self, worker: Worker) -> None:
        try:
            kind, *content = worker.connection.recv()
            if kind == "slot":
                number, size = content
                handle = reduction.recv_handle(worker.connection)
                worker.slots[number] = mmap.mmap(handle, size)
                os.close(handle)
        except (EOFError, ConnectionError) as error:
            raise _died(worker) from error
        if kind == "ready":
            worker.ready = True
        elif kind == "batch":
            step, number, parcel = content
            self.made[step] = Made(worker.jobs.pop(step), *unpacked(parcel, _memory(worker, number)))
        elif kind == "error":
            raised, text = content
            raise raised from TracebackOfWorkerError(text)

    def close(self) -> None:
        self.selector.close()
        for worker in self.workers:
            worker.connection.close()  # the worker sees the end and leaves
        for worker in self.workers:
            worker.process.join(timeout=2)
            if worker.process.is_alive():
                worker.process.kill()  # one that is stopped would not see a mere SIGTERM
                worker.process.join()


def _died(worker: Worker) -> RunError:
    worker.process.join(timeout=5)  # or its exit code is not known yet
    code = worker.process.exitcode
    how = f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with exit code {code}"
    fix = "signal 9 is most often the kernel short of memory: take fewer workers or smaller batches, then resume"
    if code and code > 0 and not worker.ready:  # workers import the script that starts them
        fix = 'put what starts the loader under `if __name__ == "__main__":`, in a file; or set workers to 0'
    what = f"loader worker {worker.process.pid} {how}, with steps {list(worker.jobs)} in work"
    return RunError(what, "the loader", fix)


def _start(context: Any, maker: Maker) -> Worker:
    ours, theirs = context.Pipe(duplex=True)
    process = context.Process(target=work, args=(theirs, pickle.dumps(maker)), daemon=True)
    process.start()
    theirs.close()
    return Worker(process, ours)


def _memory(worker: Worker, number: int | None) -> Array:
    """Its slot of this number, which is the worker's again when the last tensor on it is gone. None: of no bytes."""
    if number is None:
        return np.empty(0, np.uint8)
    memory: Array = np.frombuffer(worker.slots[number], np.uint8)
    weakref.finalize(memory, worker.released.append, number)
    return memory
