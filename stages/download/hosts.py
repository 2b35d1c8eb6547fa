"""Whose turn it is: rows wait at their host, and a host is asked as often and as much at a time as is polite.

Hosts take turns. A host that does not answer its first request, or later gives no answer several times in a row, is set
aside: its rows are tried a few at a time, when no other host has work. A host is given up, and left alone for a while,
if it goes on like that, if only temporary failures come from it, or if the pauses that it asks for hold the run for too
long. So a host that hangs is done with after a few deadlines, and none holds a run.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict, deque
from collections.abc import Callable

from stages.download.failure import Failure
from stages.download.host import Courtesy, Host, Job
from stages.download.pace import Pace

# Refusals of one row that slow its host down. Another one between answers is meant for that row, not for the rate.
SLOWING = 2


class Hosts:
    """The waiting rows of all shards in work. Knows neither clock nor network: `now` is the caller's.

    idle_s: the caller adds to it the time in which it could do nothing but wait for the hosts' times.
    """

    def __init__(self, courtesy: Courtesy) -> None:
        self.courtesy = courtesy
        self.idle_s = 0.0
        self.waiting = 0
        self._hosts: OrderedDict[str, Host] = OrderedDict()
        self._ready: deque[Host] = deque()
        self._aside: deque[Host] = deque()
        self._timers: list[tuple[float, int, Host]] = []
        self._count = 0
        self._lost: list[tuple[Job, Failure]] = []

    def of(self, job: Job) -> Host:
        name = f"{job.target.host}:{job.target.port}"
        if name not in self._hosts:
            self._hosts[name] = Host(name, Pace(0.0 if self._exempt(name) else self.courtesy.pause_s))
        return self._hosts[name]

    def all(self) -> list[Host]:
        return list(self._hosts.values())

    def lost(self) -> list[tuple[Job, Failure]]:
        """The rows that were given up with their hosts since the last call, and why."""
        lost, self._lost = self._lost, []
        return lost

    def add(self, job: Job, now: float) -> None:
        """Let a row wait for its host's turn. It is lost at once if the host was given up."""
        host = self.of(job)
        if host.given_up and now >= host.not_before:  # it may have recovered: it gets some more tries
            host.given_up = None
            host.silent = min(host.silent, self.courtesy.aside_after)
            host.fruitless = 0
        if host.given_up:
            self._lost.append((job, host.given_up))
            return
        host.waiting.append(job)
        self.waiting += 1
        self._offer(host, now)

    def take(self, now: float, only_aside: bool = False) -> Job | None:
        """The next row whose host may be asked now; of hosts set aside only when no other is ready."""
        while self._timers and self._timers[0][0] <= now:
            _, number, host = heapq.heappop(self._timers)
            if number != host.timer:  # it was taken out
                continue
            host.queued, host.timer = False, 0
            self._waited(host, now)
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
        host.held = False
        job.free, job.started, host.started = host.not_before, now, now
        host.not_before = max(host.not_before, now + host.pace.pause_s)
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

    def answer(self, host: Host, crawl_delay_s: float | None = None) -> None:
        """The host answered, whatever it said; crawl_delay_s: what its robots.txt asks for, if that is known."""
        host.answered, host.silent = True, 0
        if crawl_delay_s is not None and not self._exempt(host.name):
            host.pace.asked_s = crawl_delay_s
            host.not_before = max(host.not_before, host.started + host.pace.pause_s)

    def progress(self, host: Host) -> None:
        """A row of the host came, or failed for good."""
        host.done += 1
        host.fruitless = host.refused = host.refusals = 0
        host.pace.bore()

    def silence(self, host: Host, now: float) -> None:
        """The host gave no answer."""
        host.silent += 1
        most = self.courtesy.given_up_after
        if host.silent >= most:
            self.give_up(host, now, left_out(host, f"gave no answer {most} times in a row", most))

    def fruitless(self, host: Host, now: float) -> None:
        """A row of the host failed in a way that may pass."""
        if not host.fruitless:
            host.fruitless_since = now
        host.fruitless += 1
        most = self.courtesy.fruitless_after
        if host.fruitless >= most and now - host.fruitless_since >= self.courtesy.fruitless_s:
            self.give_up(host, now, left_out(host, f"failed {most} times in a row in ways that may pass", most))

    def refusal(self, host: Host, job: Job, now: float, too_long: bool) -> None:
        """The host refused a request for its rate; too_long: for longer than anybody waits."""
        host.refusals += 1
        if not self._exempt(host.name) and (job.refused < SLOWING or host.refusals > 1):
            host.pace.refused(now, job.started)
            host.not_before = max(host.not_before, now + host.pace.pause_s)
        if too_long:
            host.refused += 1
            most = self.courtesy.given_up_after
            if host.refused >= most:
                why = f"asked {most} times in a row for a longer pause than is waited for"
                self.give_up(host, now, left_out(host, why, most))

    def hold(self, host: Host, until: float) -> None:
        """Ask the host nothing before then: it sent Retry-After, or its robots.txt can't be had."""
        host.held = True
        host.not_before = max(host.not_before, until)

    def unasked(self, host: Host, job: Job) -> None:
        """The row's outcome was known without a request, so the next one need not wait for it."""
        if host.started == job.started and not host.held and not host.given_up:
            host.not_before = job.free
            if host.timer:  # `done` lets it take its place anew
                host.queued, host.timer = False, 0

    def give_up(self, host: Host, now: float, why: Failure) -> None:
        """Lose all rows that wait for the host, and those that come until it has rested."""
        host.given_up, host.held, host.not_before = why, False, now + self.courtesy.rest_s
        self._lost += [(job, why) for job in host.waiting]
        self.waiting -= len(host.waiting)
        host.waiting.clear()

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
        if host.not_before <= now:
            host.queued = True
            (self._aside if self._is_aside(host) else self._ready).append(host)
        elif (left := self._patience(host)) is None or left > 0:
            host.queued = True
            host.idle_mark = self.idle_s
            self._count += 1
            host.timer = self._count
            moment = host.not_before if left is None else min(host.not_before, now + max(left, 0.05))
            heapq.heappush(self._timers, (moment, self._count, host))
        else:
            why = f"asks for pauses that would hold the run for more than {self.courtesy.max_host_s:g} s"
            self.give_up(host, now, left_out(host, why, 1, "host-slow"))

    def _patience(self, host: Host) -> float | None:
        """For how many seconds more the run may stand idle for this host; None: its next pause does not matter."""
        most = self.courtesy.max_host_s
        if most is None or not (host.held or host.pace.imposed):
            return None
        return 0.0 if host.pace.asked_s > most else most - host.idle_s

    def _waited(self, host: Host, now: float) -> None:
        """Charge a host that had to be waited for with the time in which nothing else could be done."""
        if host.held or host.pace.imposed:
            host.idle_s += self.idle_s - host.idle_mark
        if host.not_before <= now:
            host.held = False

    def _forget(self) -> None:
        """Drop the hosts that have been idle longest. What is known of their manners is asked again."""
        for name in list(self._hosts)[:10_000]:
            host = self._hosts[name]
            if not (host.open or host.waiting or host.active or host.queued or host.given_up):
                del self._hosts[name]


def left_out(host: Host, why: str, times: int, reason: str = "host-down") -> Failure:
    """The failure of rows that are given up with their host."""
    return Failure(reason, f"{host.label} {why}; this row's picture was not asked for", times)
