"""What a task says while it runs, in this process or on a worker: rows done so far, and the worker's own figures."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from stages import rows_done

T = TypeVar("T")
R = TypeVar("R")
EACH = 100  # workers, from which on each reports less often, so that all together send 100 reports a second


def every_s(workers: int) -> float:
    """Seconds between two reports of a task, of so many workers."""
    return rows_done.EVERY_S * max(1.0, workers / EACH)


@dataclass
class Kept:
    """Takes reports, and keeps what goes wrong as they are shown: that is no fault of the stage that reports."""

    show: Callable[[float], None]
    home: int = field(default_factory=threading.get_ident)
    error: OSError | ValueError | None = None

    def __call__(self, rows: float) -> None:
        if self.error is not None or threading.get_ident() != self.home:
            return
        try:
            self.show(rows)
        except (OSError, ValueError) as error:  # a closed terminal, a full disk under the log
            self.error = error


def run_told(function: Callable[[T], R], task: T, show: Callable[[float], None]) -> R:
    """function(task) in this thread, where `show` hears of its rows. What `show` raises is raised in the end."""
    kept = Kept(show)
    with rows_done.counting(kept, rows_done.EVERY_S):
        result = function(task)
    if kept.error is not None:
        raise kept.error
    return result


def run_reported(function: Callable[[T], R], task: T, topic: str, key: str, seconds: float) -> R:
    """function(task) on a Dask worker, which sends (key, rows so far) under this topic.

    The worker drops what it can't send, and never waits.
    """
    from distributed import get_worker

    worker = get_worker()
    for name, figure in FIGURES.items():
        worker.metrics.setdefault(name, figure)
    with rows_done.counting(lambda rows: worker.log_event(topic, [key, rows]), seconds):
        return function(task)


@dataclass
class Worked:
    """What this process has made for a stage. Dask's dashboard shows it for each worker."""

    stage: str = ""
    kept: int = 0
    left_out: int = 0
    seconds: float = 0.0  # in tasks, of all threads
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, stage: str, kept: int, left_out: int, since: float) -> None:
        """A shard was made. since: when it was begun, as time.monotonic() has it."""
        with self.lock:
            if stage != self.stage:
                self.stage, self.kept, self.left_out, self.seconds = stage, 0, 0, 0.0
            self.kept += kept
            self.left_out += left_out
            self.seconds += time.monotonic() - since

    @property
    def rate(self) -> float:
        """Rows a second of a thread that works."""
        return (self.kept + self.left_out) / self.seconds if self.seconds else 0.0


WORKED = Worked()
FIGURES: dict[str, Callable[[Any], Any]] = {  # by the titles that the dashboard's table of workers has
    "pairloom stage": lambda worker: WORKED.stage,
    "rows kept": lambda worker: WORKED.kept,
    "rows left out": lambda worker: WORKED.left_out,
    "rows per second": lambda worker: round(WORKED.rate, 1),
}
