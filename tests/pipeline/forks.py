"""A pool that forks a process for each task: one that a task kills is dead for certain, and costs milliseconds."""

from __future__ import annotations

import os
import pickle
import sys
import warnings
from collections import deque
from collections.abc import Callable, Iterator

from pipeline.pool import Died, Heard, R, T


class ForkPool:
    """One task after the other, each in a copy of this process. What a task raises is raised here."""

    file_s = 0.0
    deaths = 0

    def run(
        self,
        function: Callable[[T], R],
        tasks: deque[T],
        ready: Callable[[T], T] | None = None,
        alone: bool = False,
        heard: Heard[T] | None = None,
    ) -> Iterator[tuple[T, R | Died]]:
        while tasks:
            task = tasks.popleft()
            result = _forked(function, ready(task) if ready else task)
            self.deaths += isinstance(result, Died)
            yield task, result

    def workers(self) -> int:
        return 1


def _forked(function: Callable[[T], R], task: T) -> R | Died:
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python warns of threads, which no task here needs
        child = os.fork()
    if not child:
        _answer(writing, lambda: function(task))
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        content = file.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return Died(f"signal {os.WTERMSIG(status)}")
    found = pickle.loads(content)
    if isinstance(found, BaseException):
        raise found
    result: R = found
    return result


def _answer(writing: int, call: Callable[[], object]) -> None:
    """In the child: write what the call gives or raises, and end without the parent's clean-up."""
    try:
        found = call()
    except BaseException as error:  # noqa: BLE001  # raised again in the parent
        found = error
    with os.fdopen(writing, "wb") as file:
        file.write(pickle.dumps(found))
    sys.stdout.flush()
    os._exit(0)
