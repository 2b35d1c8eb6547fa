"""Where tasks run: the interface that the executor sees, and the pool that is this process itself."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from typing import Protocol, TypeAlias, TypeVar

from pipeline.reports import run_told
from stages import rows_done


class Labelled(Protocol):
    """A task, as a pool sees it."""

    @property
    def label(self) -> str:
        """What people see of it, such as regions-00012."""


T = TypeVar("T", bound=Labelled)
R = TypeVar("R")
Heard: TypeAlias = Callable[[T, float], None]  # is told of a task how many rows are done so far


@dataclass(frozen=True)
class Died:
    """In place of a result: the worker process died on this task (it was killed, crashed or ran out of memory)."""

    detail: str


class Pool(Protocol):
    """Where tasks run. What a task raises is raised here. A dead worker is a result of its own."""

    @property
    def file_s(self) -> float:
        """How long a file that a task wrote may take to be seen here."""

    def run(
        self,
        function: Callable[[T], R],
        tasks: deque[T],
        ready: Callable[[T], T] | None = None,
        alone: bool = False,
        heard: Heard[T] | None = None,
    ) -> Iterator[tuple[T, R | Died]]:
        """(task, its result) as they finish, in any order.

        tasks: taken from the left as places become free, so that whoever called may take some back. ready: what is
        done to a task at the last moment. alone: a process has one task at a time, so that no other dies with it.
        heard: called here, in the thread that asks for results. Reports may be lost, and late ones are not passed on.
        """

    def workers(self) -> int:
        """The most processes that there were so far, at least one."""


class Inline:
    """Tasks in this process, one after the other or a few in threads. A task that kills its process kills us."""

    def __init__(self, overlap: int = 1) -> None:
        self.overlap = overlap
        self.file_s = 0.0

    def run(
        self,
        function: Callable[[T], R],
        tasks: deque[T],
        ready: Callable[[T], T] | None = None,
        alone: bool = False,
        heard: Heard[T] | None = None,
    ) -> Iterator[tuple[T, R | Died]]:
        at_once = 1 if alone else self.overlap
        if at_once == 1:
            while tasks:
                task = tasks.popleft()
                given = ready(task) if ready else task
                yield task, run_told(function, given, partial(heard or _nobody, task))
            return
        said, running = SimpleQueue[tuple[T, Callable[[], R] | float]](), 0
        while tasks or running:
            while tasks and running < at_once:
                _start(function, tasks.popleft(), ready, said)
                running += 1
            task, result = said.get()
            if isinstance(result, float):
                (heard or _nobody)(task, result)
                continue
            running -= 1
            yield task, result()

    def workers(self) -> int:
        return 1


def _nobody(task: T, rows: float) -> None:
    """Nobody wants to know how far a task is."""


def _start(
    function: Callable[[T], R],
    task: T,
    ready: Callable[[T], T] | None,
    said: SimpleQueue[tuple[T, Callable[[], R] | float]],
) -> None:
    """Run a task in a thread, which puts its rows so far into the queue, and in the end a callable.

    What the task returns or raises comes out of that.
    """
    future: Future[R] = Future()

    def work() -> None:
        try:
            with rows_done.counting(lambda rows: said.put((task, float(rows))), rows_done.EVERY_S):
                future.set_result(function(ready(task) if ready else task))
        except BaseException as error:  # noqa: BLE001  # raised again where the result is asked for
            future.set_exception(error)
        said.put((task, future.result))

    threading.Thread(target=work, daemon=True).start()  # a daemon, so that Ctrl-C need not wait for what it waits for
