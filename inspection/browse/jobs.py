"""Work that a page waits for, in a thread: its result when it is there, and how far it is until then."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

from pairloom.errors import PairloomError, RunError


@dataclass
class Job:
    """One piece of work. `make` is given a function that it tells of the units done."""

    make: Callable[[Callable[[int], None]], Any]
    total: int = 0
    done: int = 0
    result: Any = None
    error: PairloomError | None = None
    _over: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        threading.Thread(target=self._run, daemon=True).start()

    @property
    def over(self) -> bool:
        return self._over.is_set()

    def wait(self, wait_s: float) -> bool:
        """Whether it is over, after so long at most."""
        return self._over.wait(wait_s)

    def checked(self) -> Any:
        """The result of one that is over. Raises the PairloomError that it ended with."""
        if self.error:
            raise self.error
        return self.result

    def _advance(self, count: int) -> None:
        self.done += count

    def _run(self) -> None:
        fault = RunError("this ended with a fault of pairloom's own", "the terminal shows it", "report the bug")
        self.error = fault  # unless it ends well, or with an error that has a cure
        try:
            self.result = self.make(self._advance)
            self.error = None
        except PairloomError as error:
            self.error = error
        finally:
            self._over.set()


@dataclass
class Jobs:
    """The latest jobs by what they are of, so that a page that is loaded again finds its own."""

    most: int = 12
    _known: OrderedDict[Hashable, Job] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, key: Hashable, make: Callable[[Callable[[int], None]], Any], total: int = 0) -> Job:
        with self._lock:
            if key not in self._known:
                self._known[key] = Job(make, total)
            self._known.move_to_end(key)
            while len(self._known) > self.most:
                self._known.popitem(last=False)
            return self._known[key]

    @property
    def busy(self) -> bool:
        """Whether any is being worked on. A thread cannot be stopped."""
        return any(not job.over for job in self._known.values())
