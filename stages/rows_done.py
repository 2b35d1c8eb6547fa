"""How far a call of `process` has come, for whoever shows it; where nobody asks, nothing happens.

A stage that takes more than seconds for a shard says so as it goes: `add(n)` after n rows, or after n of whatever it
said by `expect`. Nothing that is said here changes what comes out. Each report holds all so far, so a lost one is made
good by the next.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

EVERY_S = 1.0  # between two reports of a task, as a rule
Report = Callable[[float], None]  # is told all rows so far

_here = threading.local()


class Count:
    """The rows of one task so far."""

    def __init__(self, report: Report | None = None, every_s: float = 0.0) -> None:
        """report: None where nobody asks."""
        self._report, self._every_s = report, every_s
        self._last = time.monotonic()
        self._before, self._inside = 0.0, 0.0  # rows of the calls that have ended, and of this one
        self._rows, self._unit = 0, 1.0  # of this call, and how many of them a unit is

    def add(self, units: float = 1) -> None:
        """So many more are done. Any one thread at a time may say so."""
        if self._report is None:
            return
        self._inside = min(self._inside + units * self._unit, self._rows)
        self._tell()

    def reach(self, units: float) -> None:
        """So many of this call are done at least, whatever was said before."""
        self.add(max(0.0, units - self._inside / self._unit) if self._unit else 0.0)

    def expect(self, units: float) -> None:
        """This call counts in units, of which there are so many, and no longer in rows."""
        self._unit = self._rows / max(units, 1)

    @contextmanager
    def call(self, rows: int) -> Iterator[None]:
        """A call of `process` on so many rows. One that raises has done none. One that returns has done all."""
        self._rows, self._unit, self._inside = rows, 1.0, 0.0
        try:
            yield
            self._before += rows
        finally:
            self._rows, self._inside = 0, 0.0

    def _tell(self) -> None:
        now = time.monotonic()
        if self._report is not None and now - self._last >= self._every_s:
            self._last = now
            self._report(self._before + self._inside)


_NOBODY = Count()


def current() -> Count:
    """The count of this thread's task; for a stage that does its work in other threads."""
    count: Count = getattr(_here, "count", _NOBODY)
    return count


def add(units: float = 1) -> None:
    """So many rows more are done, or what `expect` has said."""
    current().add(units)


def expect(units: float) -> None:
    """From here on this call of `process` counts in units, of which there are so many."""
    current().expect(units)


@contextmanager
def counting(report: Report, every_s: float) -> Iterator[None]:
    """In the block, what this thread's calls of `process` say is reported at most so often."""
    _here.count = Count(report, every_s)
    try:
        yield
    finally:
        del _here.count
