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
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Generic

from pairloom.errors import MachineError, RunError
from pipeline.crew import GPU, LEAVING, Crew, Worker, pickled
from pipeline.pool import Died, R, T
from pipeline.progress import say
from pipeline.stalls import InWork, Watch

AHEAD = 2  # tasks that wait at a worker, so that it need not ask for the next one
TRIES = 2  # workers on which a task may meet an error of the machine
GATHER_S = 10.0  # for a result to arrive; a worker that dies with it makes it again
ON_THE_WAY = object()
SLOW_AT = 400  # workers from which the cluster is looked at less often


@dataclass(frozen=True)
class Flight(Generic[T]):
    """A task on its way."""

    task: T
    worker: Worker
    future: Any
    order: int
    since: float


class DaskPool:
    """The pool on a Dask client's cluster, whose workers `crew` knows."""

    def __init__(self, client: Any, crew: Crew, watch: Watch, overlap: int = 1) -> None:
        self.client, self.crew, self.watch, self.overlap = client, crew, watch, overlap
        self._looked, self._lost_since, self._settled, self._advised = 0.0, 0.0, False, False

    @property
    def file_s(self) -> float:
        return self.watch.patience.file_s

    def workers(self) -> int:
        return max(1, self.crew.most)

    def run(
        self, function: Callable[[T], R], tasks: deque[T], ready: Callable[[T], T] | None = None, alone: bool = False
    ) -> Iterator[tuple[T, R | Died]]:
        flying: dict[str, Flight[T]] = {}
        landed, failed, order = SimpleQueue[str](), Counter[str](), 0
        self.watch.progress()
        try:
            while tasks or flying:
                for task, death in self._look(flying, tasks):
                    yield task, death
                while tasks and (worker := self._free(flying, len(tasks), alone)):
                    task = tasks.popleft()
                    flight = self._send(function, task, ready, worker, order)
                    order += 1
                    flying[flight.future.key] = flight
                    flight.future.add_done_callback(lambda future: landed.put(future.key))
                for key in _waited(landed, self._pause_s()):
                    if (flight := flying.get(key)) is None:
                        continue  # taken back meanwhile
                    ended = self._ended(flight)
                    if ended is ON_THE_WAY:
                        landed.put(key)
                        continue
                    del flying[key]
                    flight.future.release()  # or the scheduler would make it again each time its worker dies
                    yield from self._outcome(flight, ended, tasks, failed)
        finally:
            for flight in flying.values():
                flight.future.release()

    def _pause_s(self) -> float:
        return self.watch.patience.look_s * max(1, len(self.crew.present) / SLOW_AT)

    def _look(self, flying: dict[str, Flight[T]], tasks: deque[T]) -> Iterator[tuple[T, Died]]:
        """Look at the cluster, if it is time; tasks of workers that died, each with its death."""
        now = time.monotonic()
        if now - self._looked < self._pause_s():
            return
        self._looked = now
        if (identity := self._identity()) is None:
            return
        for worker in self.crew.look(identity):
            yield from self._taken_back(worker, flying, tasks)
        work = [InWork(one.task.label, one.worker, one.since) for one in flying.values()]
        self.watch.look(self.crew, work, len(tasks))

    def _identity(self) -> Any:
        """What the scheduler says of itself and its workers; None if it does not answer, for a while."""
        try:
            if self.client.status == "running":
                found = self.client.sync(self.client.scheduler.identity, n_workers=-1)
                self._lost_since = 0.0
                return found
        except (OSError, RuntimeError, CancelledError) as error:
            if self.client.status in ("closing", "closed"):
                raise self._gone() from error
        now = time.monotonic()
        self._lost_since = self._lost_since or now
        if self.client.status in ("closing", "closed") or now - self._lost_since > self.watch.patience.lost_s:
            raise self._gone()
        return None

    def _gone(self) -> RunError:
        fix = "start it and its workers again, and run the same command again: finished shards are kept"
        return RunError("the Dask scheduler is gone: it does not answer any more", self.watch.address, fix)

    def _taken_back(self, worker: Worker, flying: dict[str, Flight[T]], tasks: deque[T]) -> Iterator[tuple[T, Died]]:
        """The tasks of a worker that is gone: those that it worked on are blamed, those that waited wait again."""
        own = sorted((one for one in flying.values() if one.worker.key == worker.key), key=lambda one: one.order)
        left = worker.status in LEAVING or any(one.future.status == "cancelled" for one in own)  # with the scheduler
        blamed = 0 if left else self._slots(worker)
        for flight in own:
            del flying[flight.future.key]
            flight.future.release()
        tasks.extendleft(flight.task for flight in reversed(own[blamed:]))
        for flight in own[:blamed]:
            yield flight.task, Died(f"worker {worker.name} at {worker.address} died while it worked on it")

    def _slots(self, worker: Worker) -> int:
        """How many tasks of this stage a worker has in work at once."""
        return max(1, min(self.overlap, worker.threads))

    def _free(self, flying: dict[str, Flight[T]], waiting: int, alone: bool) -> Worker | None:
        """The worker with the most room for a task; None if there is none, or the first have not answered yet."""
        if self._lost_since or not (self._settled or self._settle()):
            return None
        load = Counter(flight.worker.key for flight in flying.values())
        usable = self.crew.usable()
        ahead = AHEAD if waiting > sum(map(self._slots, usable)) and not alone else 0
        room = [(self._room(worker, alone, ahead) - load[worker.key], worker) for worker in usable]
        most = max(room, key=lambda each: each[0], default=None)
        return most[1] if most is not None and most[0] > 0 else None

    def _room(self, worker: Worker, alone: bool, ahead: int) -> int:
        """Tasks that a worker may have; one with threads to spare would start what should only wait for its turn."""
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

    def _send(
        self, function: Callable[[T], R], task: T, ready: Callable[[T], T] | None, worker: Worker, order: int
    ) -> Flight[T]:
        payload = pickled(function, ready(task) if ready else task)
        future = self.client.submit(
            pickle.loads,
            payload,
            key=f"{task.label}-{uuid.uuid4().hex}",
            workers=[worker.address],
            allow_other_workers=False,
            resources={GPU: 1} if self._by_gpu(worker) else None,
        )
        return Flight(task, worker, future, order, time.monotonic())

    def _ended(self, flight: Flight[T]) -> Any:
        """The result, the error, or ON_THE_WAY if neither can be had yet."""
        try:
            if flight.future.status == "error":
                return flight.future.exception(timeout=GATHER_S)
            if flight.future.status in ("finished", "cancelled"):
                return flight.future.result(timeout=GATHER_S)
        except TimeoutError:
            return ON_THE_WAY
        except CancelledError as error:
            return error
        time.sleep(self.watch.patience.look_s)  # its worker died with the result, which the next look finds out
        return ON_THE_WAY

    def _outcome(self, flight: Flight[T], ended: Any, tasks: deque[T], failed: Counter[str]) -> Iterator[tuple[T, Any]]:
        from distributed import KilledWorker

        if isinstance(ended, KilledWorker):  # it was started again under the same address, and died again
            yield flight.task, Died(str(ended))
        elif isinstance(ended, MachineError):
            self._elsewhere(flight, ended, failed)
            tasks.appendleft(flight.task)
        elif isinstance(ended, CancelledError):  # the connection to the scheduler was lost
            tasks.appendleft(flight.task)
        elif isinstance(ended, BaseException):
            raise ended
        else:
            self.watch.progress()
            yield flight.task, ended

    def _elsewhere(self, flight: Flight[T], error: MachineError, failed: Counter[str]) -> None:
        """Use this worker no more. Raises the error if the task met the like on another, or there is no other."""
        what, where, fix = error.args
        failed[flight.task.label] += 1
        self.crew.refuse(flight.worker, f"{what} ({flight.task.label})")
        if failed[flight.task.label] >= TRIES or not (self.crew.fit or self.crew.asked):
            raise MachineError(what, f"{where} ({flight.worker.address})", fix) from error


def _waited(landed: SimpleQueue[str], seconds: float) -> Iterator[str]:
    """The keys that are in the queue, or come within so many seconds."""
    keys = []
    try:
        keys.append(landed.get(timeout=seconds))
        while True:
            keys.append(landed.get_nowait())
    except Empty:
        return iter(keys)
