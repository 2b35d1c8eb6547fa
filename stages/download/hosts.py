"""Whose turn it is: rows wait at their host, and a host is asked as often and as much at a time as is polite.

Hosts take turns. A host that does not answer its first request, or later gives no answer several times in a row, is set
aside: its rows are tried a few at a time, when no other host has work. If it goes on like that, its waiting rows are
given up, and it is left alone for a while. So a host that hangs is done with after a few deadlines, not dozens.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from stages.download.address import Target


@dataclass(frozen=True)
class Courtesy:
    """How a host is treated."""

    connections: int = 8  # at a time
    pause_s: float = 0.05  # from the start of one request to the next
    aside_after: int = 3  # failures in a row without any answer, of a host that has answered before
    aside_connections: int = 4  # at a time to a host that is set aside
    given_up_after: int = 12
    rest_s: float = 600.0  # how long a host that was given up is left alone
    exempt: frozenset[str] = frozenset()  # hosts that are ours, with neither limit


@dataclass(eq=False, slots=True)
class Job:
    """One row to fetch, or several of a shard that agree in URL and checksum."""

    target: Target
    key: bytes
    checksum: str | None
    shard: Any  # what it is a row of: the engine's to know
    attempts: int = 0
    ended: bool = False  # whether its outcome is known


@dataclass(eq=False)
class Host:
    """One host and port: what waits for it and how it has behaved."""

    name: str
    waiting: deque[Job] = field(default_factory=deque)
    active: int = 0
    not_before: float = 0.0  # on the clock that the caller keeps
    pause_s: float = 0.0
    answered: bool = False  # once at least: until then one request is enough to see whether it is there
    silent: int = 0  # failures in a row without an answer
    queued: bool = False


class Hosts:
    """The waiting rows of all shards in work. Knows neither clock nor network: `now` is the caller's."""

    def __init__(self, courtesy: Courtesy) -> None:
        self.courtesy = courtesy
        self._hosts: OrderedDict[str, Host] = OrderedDict()
        self._ready: deque[Host] = deque()
        self._aside: deque[Host] = deque()
        self._timers: list[tuple[float, int, Host]] = []
        self._count = 0
        self.waiting = 0

    def of(self, job: Job) -> Host:
        name = f"{job.target.host}:{job.target.port}"
        if name not in self._hosts:
            self._hosts[name] = Host(name, pause_s=0.0 if self._exempt(name) else self.courtesy.pause_s)
        return self._hosts[name]

    def add(self, job: Job, now: float) -> Job | None:
        """Let a row wait for its host's turn; the row itself comes back if the host was given up."""
        host = self.of(job)
        if host.silent >= self.courtesy.given_up_after:
            if now < host.not_before:
                return job
            host.silent = self.courtesy.aside_after  # it may have recovered: it gets some more tries
        host.waiting.append(job)
        self.waiting += 1
        self._offer(host, now)
        return None

    def take(self, now: float, only_aside: bool = False) -> Job | None:
        """The next row whose host may be asked now; of hosts set aside only when no other is ready."""
        while self._timers and self._timers[0][0] <= now:
            _, _, host = heapq.heappop(self._timers)
            host.queued = False
            self._offer(host, now)
        for queue in (self._aside,) if only_aside else (self._ready, self._aside):
            while queue:
                host = queue.popleft()
                host.queued = False
                if host.not_before > now:  # it sent Retry-After meanwhile
                    self._offer(host, now)
                elif host.waiting and host.active < self._most(host):
                    return self._start(host, now)
        return None

    def _start(self, host: Host, now: float) -> Job:
        job = host.waiting.popleft()
        self.waiting -= 1
        host.active += 1
        host.not_before = max(host.not_before, now + host.pause_s)
        self._offer(host, now)
        return job

    def next_time(self) -> float | None:
        """When a host that only waits for its time may be asked."""
        return self._timers[0][0] if self._timers else None

    def done(self, host: Host, now: float) -> None:
        """A request to the host has ended."""
        host.active -= 1
        self._offer(host, now)
        if not host.waiting and not host.active and len(self._hosts) > 50_000:
            self._forget()

    def answer(self, host: Host, pause_s: float = 0.0) -> None:
        """The host answered, whatever it said; pause_s: what its robots.txt asks for."""
        host.answered, host.silent = True, 0
        if not self._exempt(host.name):
            host.pause_s = max(self.courtesy.pause_s, pause_s)

    def silence(self, host: Host, now: float) -> Sequence[Job]:
        """The host gave no answer; what comes back are the rows that are given up with it."""
        host.silent += 1
        if host.silent < self.courtesy.given_up_after:
            return ()
        host.not_before = now + self.courtesy.rest_s
        given_up = list(host.waiting)
        host.waiting.clear()
        self.waiting -= len(given_up)
        return given_up

    def hold(self, host: Host, until: float) -> None:
        """Ask the host nothing before then: it sent Retry-After."""
        host.not_before = max(host.not_before, until)

    def drop(self, unwanted: Callable[[Job], bool]) -> None:
        """Forget waiting rows, of a shard that is not to be finished."""
        for host in self._hosts.values():
            kept = deque(job for job in host.waiting if not unwanted(job))
            self.waiting -= len(host.waiting) - len(kept)
            host.waiting = kept

    def _most(self, host: Host) -> int:
        if self._exempt(host.name):
            return 1 << 30
        if self._is_aside(host):
            return min(self.courtesy.aside_connections, self.courtesy.connections)
        return self.courtesy.connections if host.answered else 1

    def _is_aside(self, host: Host) -> bool:
        return host.silent >= (self.courtesy.aside_after if host.answered else 1)

    def _exempt(self, name: str) -> bool:
        return name.rpartition(":")[0] in self.courtesy.exempt

    def _offer(self, host: Host, now: float) -> None:
        """Queue the host where it belongs, if it has work and may take it."""
        if host.queued or not host.waiting or host.active >= self._most(host):
            return
        host.queued = True
        if host.not_before > now:
            self._count += 1
            heapq.heappush(self._timers, (host.not_before, self._count, host))
        else:
            (self._aside if self._is_aside(host) else self._ready).append(host)

    def _forget(self) -> None:
        """Drop the hosts that have been idle longest; what is known of their manners is asked again."""
        for name in list(self._hosts)[:10_000]:
            host = self._hosts[name]
            if not (host.waiting or host.active or host.queued) and host.silent < self.courtesy.given_up_after:
                del self._hosts[name]
