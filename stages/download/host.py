"""What the engine keeps of one row and of one host, and how a host is treated."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from stages.download.address import Target
from stages.download.failure import Failure
from stages.download.pace import Pace


@dataclass(frozen=True)
class Courtesy:
    """How a host is treated."""

    connections: int = 8  # at a time
    pause_s: float = 0.05  # from the start of one request to the next
    aside_after: int = 3  # failures in a row without any answer, of a host that has answered before
    aside_connections: int = 4  # at a time to a host that is set aside
    given_up_after: int = 12  # failures in a row without any answer, or refusals for longer than is waited
    fruitless_after: int = 36  # temporary failures in a row, of whatever kind
    fruitless_s: float = 120.0  # that these must take at least, so that a quick server loses no row
    rest_s: float = 600.0  # how long a host that was given up is left alone
    max_host_s: float | None = 1800.0  # that a worker may stand idle for the pauses of one host, in all
    exempt: frozenset[str] = frozenset()  # hosts that are ours, with neither limit


@dataclass(eq=False, slots=True)
class Job:
    """One row to fetch, or several of a shard that agree in URL and checksum."""

    target: Target
    key: bytes
    checksum: str | None
    shard: Any  # what it is a row of: the engine's to know
    attempts: int = 0
    refused: int = 0  # attempts that were refused for their rate and do not count
    seen: int = 0  # rows of its host that were done when it was refused last
    started: float = 0.0  # when its last attempt began
    free: float = 0.0  # when its host could be asked before that
    failure: Failure | None = None  # how its last attempt ended
    ended: bool = False  # whether its outcome is known

    @property
    def tries(self) -> int:
        """The attempts that count. How many others there were depends on what else was asked of the host."""
        return self.attempts - self.refused


@dataclass(eq=False)
class Host:
    """One host and port: what waits for it and how it has behaved."""

    name: str
    pace: Pace
    waiting: deque[Job] = field(default_factory=deque)
    open: int = 0  # rows whose outcome is not known yet, waiting or not
    active: int = 0
    started: float = 0.0  # when it was asked last, on the clock that the caller keeps
    not_before: float = 0.0  # on the same clock
    answered: bool = False  # once at least: until then one request is enough to see whether it is there
    silent: int = 0  # failures in a row without an answer
    refused: int = 0  # refusals in a row for longer than is waited
    refusals: int = 0  # refusals in a row, of whatever length
    fruitless: int = 0  # temporary failures in a row
    fruitless_since: float = 0.0
    done: int = 0  # rows that came or failed for good
    held: bool = False  # whether it sent Retry-After, and that time is not over
    idle_s: float = 0.0  # that the run stood idle for it
    idle_mark: float = 0.0  # the idle time of all when it began to wait for its time
    given_up: Failure | None = None  # until not_before
    queued: bool = False
    timer: int = 0  # the number under which it waits for its time; 0: it does not

    @property
    def label(self) -> str:
        """The host's name without its port, for messages."""
        return self.name.rpartition(":")[0]
