"""What runs in a worker process: it makes the batches of its jobs in memory that the main process shares."""

from __future__ import annotations

import mmap
import os
import pickle
import tempfile
import traceback
from multiprocessing import reduction
from multiprocessing.connection import Connection
from typing import Any

import torch

from pairloom.errors import RunError
from pairloom.loader.buffers import Arena
from pairloom.loader.jobs import Job, Maker
from pairloom.loader.parcel import packed


class Slots:
    """A worker's pieces of shared memory, each as large as the largest batch when it was made."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.memory: dict[int, mmap.mmap] = {}
        self.free: list[int] = []
        self.largest = 0

    def take(self) -> int | None:
        """A free slot for the largest batch so far. None before the first batch."""
        if not self.largest:
            return None
        fitting = [number for number in self.free if len(self.memory[number]) >= self.largest]
        if fitting:
            self.free.remove(fitting[0])
            return fitting[0]
        number, size = len(self.memory), self.largest + self.largest // 4
        with _shared_file() as file:
            file.truncate(size)
            self.memory[number] = mmap.mmap(file.fileno(), size)
            self.connection.send(("slot", number, size))
            reduction.send_handle(self.connection, file.fileno(), None)
        return number


def _shared_file() -> Any:
    """A file without a name in memory, or where the system has none, on disk: nothing is left behind by a kill."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("pairloom-batch"), "w+b")
    return tempfile.TemporaryFile()


def work(connection: Connection, pickled: bytes) -> None:
    """What a worker process runs: it makes the batches of the jobs it receives until the main process ends."""
    torch.set_num_threads(1)
    try:
        maker: Maker = pickle.loads(pickled)
        slots, arena = Slots(connection), Arena()
        connection.send(("ready",))
        while True:
            job, released = connection.recv()
            slots.free += released
            _make(maker, job, slots, arena, connection)
    except (EOFError, ConnectionError, KeyboardInterrupt):
        return  # the main process has closed its end, or is ending itself
    except BaseException as error:
        connection.send(("error", _portable(error), traceback.format_exc()))
        raise


def _make(maker: Maker, job: Job, slots: Slots, arena: Arena, connection: Connection) -> None:
    number = slots.take()
    arena.begin(None if number is None else slots.memory[number])
    made = maker(job, arena.empty)
    slots.largest = max(slots.largest, arena.used)
    connection.send(("batch", job.step, number, packed((made.batch, made.facts), arena.offset)))


def _portable(error: BaseException) -> BaseException:
    """The error itself where it survives pickling, else one that names it."""
    try:
        pickle.loads(pickle.dumps(error))
    except (TypeError, ValueError, AttributeError, pickle.PicklingError):
        return RunError(f"{type(error).__name__}: {error}", "a loader worker", "see the traceback of the cause")
    return error
