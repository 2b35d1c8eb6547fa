"""Tasks on the workers of a Dask cluster: given to each by name, counted, and taken back when a worker is gone.

Dask would place tasks itself, and try one that kills its worker on so many further workers as the scheduler's setting
says. Which worker has which task is decided here: so a death has a culprit, workers that differ get nothing, and those
that come later are used.
"""

from __future__ import annotations

import pickle
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError  # as distributed raises it
from dataclasses import dataclass, field
from itertools import count
from queue import Empty, SimpleQueue
from typing import Any, Generic

from pairloom.errors import MachineError
from pipeline.crew import GPU, LEAVING, Crew, Worker, pickled
from pipeline.link import Link
from pipeline.pool import Died, Heard, R, T
from pipeline.progress import say
from pipeline.reports import every_s, run_reported
from pipeline.stalls import InWork, Watch

AHEAD = 2  # tasks that wait at a worker, so that it need not ask for the next one
TRIES = 2  # workers on which a task may meet an error of the machine
GATHER_S = 10.0  # for a result to arrive. A worker that dies with it makes it again
ON_THE_WAY = object()
SLOW_AT = 100  # workers from which the cluster is looked at less often


@dataclass(frozen=True)
class Flight(Generic[T]):
    """A task on its way."""

    task: T
    worker: Worker
    future: Any
    order: int
    since: float


@dataclass
class Round(Generic[T]):
    """One call of `run`: what waits, what is on its way, and what has come back."""

    tasks: deque[T]
    alone: bool
    flying: dict[str, Flight[T]] = field(default_factory=dict)  # by Dask's key
    landed: SimpleQueue[str] = field(default_factory=SimpleQueue)
    rows: dict[str, float] = field(default_factory=dict)  # that a task on its way has told of, by Dask's key
    failed: Counter[str] = field(default_factory=Counter)  # tasks that a machine could not do, and how often
    orders: Iterator[int] = field(default_factory=count)
    heard: Heard[T] | None = None

    def take(self, flight: Flight[T]) -> None:
        """It is no longer on its way. What is not released the scheduler makes again each time its worker dies."""
        del self.flying[flight.future.key]
        self.rows.pop(flight.future.key, None)
        flight.future.release()


class DaskPool:
    """The pool on a Dask client's cluster, whose workers `crew` knows."""

    def __init__(self, client: Any, crew: Crew, watch: Watch, overlap: int = 1) -> None:
        self.client, self.crew, self.watch, self.overlap = client, crew, watch, overlap
        self.link = Link(client, watch.address, watch.patience.lost_s)
        self._looked, self._settled, self._advised = 0.0, False, False
        self._topic, self._reports = f"pairloom-{uuid.uuid4().hex}", SimpleQueue[tuple[str, float]]()
        client.subscribe_topic(self._topic, lambda event: self._reports.put(event[1]))

    @property
    def file_s(self) -> float:
        return self.watch.patience.file_s

    def workers(self) -> int:
        return max(1, self.crew.most)

    def run(
        self,
        function: Callable[[T], R],
        tasks: deque[T],
        ready: Callable[[T], T] | None = None,
        alone: bool = False,
        heard: Heard[T] | None = None,
    ) -> Iterator[tuple[T, R | Died]]:
        work = Round(tasks, alone, heard=heard)
        self.watch.progress()
        try:
            while tasks or work.flying:
                yield from self._look(work)
                while tasks and (worker := self._free(work)):
                    task = tasks.popleft()
                    self._send(work, task, function, ready(task) if ready else task, worker)
                yield from self._land(work)
                self._hear(work)
        finally:
            for flight in work.flying.values():
                flight.future.release()

    def _pause_s(self) -> float:
        return self.watch.patience.look_s * max(1, len(self.crew.present) / SLOW_AT)

    def _look(self, work: Round[T]) -> Iterator[tuple[T, Died]]:
        """Look at the cluster, if it is time. Yields tasks of workers that died, each with its death."""
        now = time.monotonic()
        if now - self._looked < self._pause_s():
            return
        self._looked = now
        if (identity := self.link.identity()) is None:
            return
        for worker in self.crew.look(identity):
            yield from self._taken_back(worker, work)
        self.link.knock(bool(work.tasks) and not self.crew.present)
        given = [InWork(one.task.label, one.worker, one.since) for one in work.flying.values()]
        self.watch.look(self.crew, given, len(work.tasks))

    def _taken_back(self, worker: Worker, work: Round[T]) -> Iterator[tuple[T, Died]]:
        """The tasks of a worker that is gone: those that it worked on are blamed, those that waited wait again."""
        own = sorted((one for one in work.flying.values() if one.worker.key == worker.key), key=lambda one: one.order)
        left = worker.status in LEAVING or any(one.future.status == "cancelled" for one in own)  # with the scheduler
        blamed = 0 if left else self._slots(worker)
        for flight in own:
            work.take(flight)
        work.tasks.extendleft(flight.task for flight in reversed(own[blamed:]))
        for flight in own[:blamed]:
            yield flight.task, Died(f"worker {worker.name} at {worker.address} died{worker.limit}")

    def _slots(self, worker: Worker) -> int:
        """How many tasks of this stage a worker has in work at once."""
        return max(1, min(self.overlap, worker.threads))

    def _free(self, work: Round[T]) -> Worker | None:
        """The worker with the most room for a task. None if there is none, or the first have not answered yet."""
        if self.link.away or not (self._settled or self._settle()):
            return None
        load = Counter(flight.worker.key for flight in work.flying.values())
        usable = self.crew.usable()
        ahead = AHEAD if len(work.tasks) > sum(map(self._slots, usable)) and not work.alone else 0
        room = [(self._room(worker, work.alone, ahead) - load[worker.key], worker) for worker in usable]
        most = max(room, key=lambda each: each[0], default=None)
        return most[1] if most is not None and most[0] > 0 else None

    def _room(self, worker: Worker, alone: bool, ahead: int) -> int:
        """Tasks that a worker may have. One with threads to spare would start what should only wait for its turn."""
        slots = 1 if alone else self._slots(worker)
        return slots + ahead if worker.threads <= slots or self._by_gpu(worker) else slots

    def _by_gpu(self, worker: Worker) -> bool:
        return self.crew.wants_gpu and worker.gpus > 0

    def _settle(self) -> bool:
        self._settled = self.crew.settled()
        usable = self.crew.usable()
        spare = [worker for worker in usable if worker.threads > self._slots(worker) and not self._by_gpu(worker)]
        if self._settled and spare and not self._advised:
            self._advised = True
            say(
                f"{self.watch.title}: {len(spare)} workers have {spare[0].threads} threads, of which a process uses "
                f"{self._slots(spare[0])}: start more processes with one, `dask worker … --nworkers N --nthreads 1`"
            )
        return self._settled

    def _hear(self, work: Round[T]) -> None:
        """Pass on what tasks have said; of each the last that came, and nothing of those that are over."""
        last = dict(_there(self._reports))
        for key in work.flying.keys() & last.keys():
            if last[key] > work.rows.get(key, 0):
                work.rows[key] = last[key]
                self.watch.moved()
            if work.heard is not None:
                work.heard(work.flying[key].task, last[key])

    def _send(self, work: Round[T], task: T, function: Callable[[T], R], given: T, worker: Worker) -> None:
        """given: the task, made ready."""
        key = f"{task.label}-{uuid.uuid4().hex}"
        seconds = every_s(len(self.crew.present))
        future = self.client.submit(
            pickle.loads,
            pickled(run_reported, function, given, self._topic, key, seconds),
            key=key,
            workers=[worker.address],
            allow_other_workers=False,
            resources={GPU: 1} if self._by_gpu(worker) else None,
        )
        work.flying[future.key] = Flight(task, worker, future, next(work.orders), time.monotonic())
        future.add_done_callback(lambda done: work.landed.put(done.key))

    def _land(self, work: Round[T]) -> Iterator[tuple[T, Any]]:
        """What has come back, or comes until the next look."""
        for key in _waited(work.landed, self._pause_s()):
            flight = work.flying.get(key)
            if flight is None:
                continue  # taken back meanwhile
            ended = self._ended(flight)
            if ended is ON_THE_WAY:
                work.landed.put(key)
                continue
            work.take(flight)
            yield from self._outcome(flight, ended, work)

    def _ended(self, flight: Flight[T]) -> Any:
        """The result, the error, or ON_THE_WAY if neither can be had yet."""
        try:
            if flight.future.status == "error":
                return flight.future.exception(timeout=GATHER_S)
            if flight.future.status in ("finished", "cancelled"):
                return flight.future.result(timeout=GATHER_S)
        except CancelledError as error:
            return error
        except OSError:  # a time-out, or the scheduler went at that moment. What a task raises has the status "error"
            return self._later()
        return self._later()

    def _later(self) -> object:
        """Its worker died with the result, or the scheduler is gone: one of the next looks finds out."""
        time.sleep(self.watch.patience.look_s)
        return ON_THE_WAY

    def _outcome(self, flight: Flight[T], ended: Any, work: Round[T]) -> Iterator[tuple[T, Any]]:
        from distributed import KilledWorker

        if isinstance(ended, KilledWorker):  # it was started again under the same address, and died again
            yield flight.task, Died(str(ended))
        elif isinstance(ended, MachineError):
            self._elsewhere(flight, ended, work)
            work.tasks.appendleft(flight.task)
        elif isinstance(ended, CancelledError):  # the connection to the scheduler was lost
            work.tasks.appendleft(flight.task)
        elif isinstance(ended, BaseException):
            raise ended
        else:
            self.watch.progress()
            yield flight.task, ended

    def _elsewhere(self, flight: Flight[T], error: MachineError, work: Round[T]) -> None:
        """Use this worker no more. Raises the error if the task met the like on another, or there is no other."""
        what, where, fix = error.args
        work.failed[flight.task.label] += 1
        self.crew.refuse(flight.worker, f"{what} ({flight.task.label})")
        if work.failed[flight.task.label] >= TRIES or not (self.crew.fit or self.crew.asked):
            raise MachineError(what, f"{where} ({flight.worker.address})", fix) from error


def _there(queue: SimpleQueue[R]) -> Iterator[R]:
    """What is in the queue now."""
    try:
        while True:
            yield queue.get_nowait()
    except Empty:
        return


def _waited(landed: SimpleQueue[str], seconds: float) -> Iterator[str]:
    """The keys that are in the queue, or come within so many seconds."""
    keys = []
    try:
        keys.append(landed.get(timeout=seconds))
    except Empty:
        return iter(keys)
    return iter([*keys, *_there(landed)])
