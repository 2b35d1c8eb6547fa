"""Runs many fetches at once on one event loop, decodes in processes, and tries again what may yet come through.

The loop lives in a thread of its own as long as the worker does, so that several shards can be in work at once: while
one waits for its last slow servers, the next ones use the connections. What hosts, names and robots.txt have said is
remembered from shard to shard.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import threading
import weakref
import zlib
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from schemas.errors import RunError, StoreError
from stages.download.address import Target, parse
from stages.download.decoders import Decoders, Decoding
from stages.download.failure import SILENT, Failure
from stages.download.fetch import Fetched, Fetcher, Manners
from stages.download.hosts import Courtesy, Host, Hosts, Job
from stages.download.spool import Outcome, Spool, key_of

WAITING_BYTES = 96 << 20  # of bodies that wait to be decoded; beyond that nothing more is fetched


@dataclass(frozen=True, kw_only=True)
class Persistence:
    """How often and how long a row is tried."""

    retries: int = 2  # after the first attempt
    backoff_s: float = 0.5  # pause before the first retry, doubled before each further one
    max_wait_s: float = 60.0  # the longest pause that a server may ask for; who asks for more is not asked again
    outage_after: int | None = 1000  # rows in a row that no host answered, after which the network is tested


class Engine:
    """Downloads shards; `run` may be called from several threads."""

    def __init__(self, manners: Manners, courtesy: Courtesy, persistence: Persistence, decoding: Decoding) -> None:
        self.manners, self.courtesy, self.persistence, self.decoding = manners, courtesy, persistence, decoding
        self._lock = threading.Lock()
        self._running: _Running | None = None

    def run(self, rows: Sequence[tuple[str, str | None]], folder: Path | None) -> Spool:
        """What became of each (url, checksum), by `spool.key_of`; to be closed by the caller.

        folder: where what is finished is noted row by row, and found again after a crash. Raises RunError in an outage.
        """
        shard = Shard(Spool(folder))
        for url, checksum in dict.fromkeys(rows):
            shard.plan(url, checksum)
        if shard.jobs:
            running = self._started()
            running.loop.call_soon_threadsafe(running.traffic.begin, shard)
            try:
                shard.finished.result()
            except BaseException:  # Ctrl-C, an outage, a full disk: the process may go on with something else
                running.loop.call_soon_threadsafe(running.traffic.abandon, shard)
                raise
        return shard.spool

    def close(self) -> None:
        """Stop the loop and the decoding processes, which otherwise happens when nobody holds the engine any more."""
        with self._lock:
            if self._running is not None:
                self._running.stop()
                self._running = None

    def _started(self) -> _Running:
        with self._lock:
            if self._running is None:
                allow_connections(2 * self.manners.connections + 256)
                self._running = _Running(self)
                weakref.finalize(self, self._running.stop)
            return self._running


class _Running:
    """The loop, its thread, and what goes on there."""

    def __init__(self, engine: Engine) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True, name="download")
        self.thread.start()
        made = partial(_Traffic, engine.manners, engine.courtesy, engine.persistence, engine.decoding)
        self.traffic = asyncio.run_coroutine_threadsafe(_call(made), self.loop).result()

    def stop(self) -> None:
        if self.loop.is_closed():
            return
        with contextlib.suppress(TimeoutError):  # at exit; the thread is a daemon
            asyncio.run_coroutine_threadsafe(self.traffic.close(), self.loop).result(timeout=5)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(timeout=5)
        if not self.thread.is_alive():
            self.loop.close()


async def _call(make: Callable[[], _Traffic]) -> _Traffic:
    """Run on the loop what needs to find it running."""
    return make()


@dataclass(eq=False)
class Shard:
    """The rows of one shard that are still to be done."""

    spool: Spool
    jobs: list[Job] = field(default_factory=list)
    open: int = 0
    came: Target | None = None  # one that was stored before
    unsure: list[tuple[bytes, Outcome]] = field(default_factory=list)  # failures that an outage would explain
    finished: Future[None] = field(default_factory=Future)

    def plan(self, url: str, checksum: str | None) -> None:
        """Make a job of a row that is not done yet."""
        key = key_of(url, checksum)
        try:
            if key not in self.spool:
                self.jobs.append(Job(parse(url), key, checksum, self))
                self.open += 1
            elif self.came is None and self.spool.stored(key):
                self.came = parse(url)
        except Failure as failure:
            self.spool.add(key, outcome_of(failure))

    def note(self, key: bytes, outcome: Outcome, picture: bytes = b"") -> None:
        if self.finished.done():
            return
        try:
            self.spool.add(key, outcome, picture)
        except StoreError as error:
            self.finished.set_exception(error)

    def settle(self) -> None:
        """There is no outage: what failed has failed. A shard with no open row is finished."""
        unsure, self.unsure = self.unsure, []
        for key, outcome in unsure:
            self.note(key, outcome)
        if not self.open and not self.finished.done():
            self.finished.set_result(None)


def outcome_of(failure: Failure) -> Outcome:
    return {"reason": failure.reason, "detail": failure.detail, "attempts": failure.attempts}


class _Traffic:
    """All that happens on the loop: who is asked next, what is tried again, when to stop."""

    def __init__(self, manners: Manners, courtesy: Courtesy, persistence: Persistence, decoding: Decoding) -> None:
        self.persistence = persistence
        self.connections = manners.connections
        self.fetcher = Fetcher(manners)
        self.decoders = Decoders(decoding)
        self.hosts = Hosts(courtesy)
        self.loop = asyncio.get_running_loop()
        self.active = 0
        self.undecoded = 0  # bytes
        self.shards: list[Shard] = []
        self.tasks: set[asyncio.Task[None]] = set()
        self.timer: asyncio.TimerHandle | None = None
        self.outage = _Outage(self)

    async def close(self) -> None:
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.decoders.close()
        await self.fetcher.close()

    def begin(self, shard: Shard) -> None:
        self.shards.append(shard)
        self.outage.canary = self.outage.canary or shard.came
        shard.finished.add_done_callback(lambda _: self.loop.call_soon_threadsafe(self._forget, shard))
        for job in shard.jobs:
            self._wait(job)
        self._pump()

    def abandon(self, shard: Shard) -> None:
        self._forget(shard)
        self.hosts.drop(lambda job: job.shard is shard)
        shard.finished.cancel()  # so that nothing more is noted
        shard.spool.close()

    def _forget(self, shard: Shard) -> None:
        if shard in self.shards:
            self.shards.remove(shard)

    def _wait(self, job: Job) -> None:
        if given_up := self.hosts.add(job, self.loop.time()):
            self._give_up(given_up)

    def _pump(self) -> None:
        """Start as many fetches as there are free connections and hosts that may be asked."""
        while self.active < self.connections:
            # A host set aside costs a connection and hardly any work: it may be tried while decoding is behind.
            job = self.hosts.take(self.loop.time(), only_aside=self.undecoded > WAITING_BYTES)
            if job is None:
                break
            self.active += 1
            self.spawn(self._fetch(job))
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if (moment := self.hosts.next_time()) is not None and self.active < self.connections:
            self.timer = self.loop.call_at(moment, self._pump)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self.loop.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """An error that is no Failure is a bug or a full disk: it ends every shard in work."""
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.stop(error)

    def stop(self, error: BaseException) -> None:
        for shard in list(self.shards):
            if not shard.finished.done():
                shard.finished.set_exception(error)

    async def _fetch(self, job: Job) -> None:
        host = self.hosts.of(job)
        job.attempts += 1
        try:
            fetched, rules = await self.fetcher.attempt(job.target)
        except Failure as failure:
            failure.attempts = job.attempts
            self._failed(job, host, failure)
        else:
            self.hosts.answer(host, rules.pause_s)
            self.outage.over(job.target)
            self.undecoded += len(fetched.body)
            self.spawn(self._decode(job, fetched))
        finally:
            self.active -= 1
            self.hosts.done(host, self.loop.time())
            self._pump()

    async def _decode(self, job: Job, fetched: Fetched) -> None:
        try:
            found, picture = await self.decoders.outcome(fetched.body, fetched.kind, job.checksum)
        finally:
            self.undecoded -= len(fetched.body)
        job.shard.note(job.key, {**found, "attempts": job.attempts}, picture)
        self._close(job.shard)
        self._pump()

    def _failed(self, job: Job, host: Host, failure: Failure) -> None:
        if failure.silent:
            for waiting in self.hosts.silence(host, self.loop.time()):
                self._give_up(waiting)
        else:
            self.hosts.answer(host)
        if failure.temporary and job.attempts <= self.persistence.retries and self._again(job, host, failure):
            return
        if failure.silent:
            self.outage.suspect(failure)
        else:
            self.outage.over(None)
        self._end(job, failure, sure=not failure.silent)

    def _again(self, job: Job, host: Host, failure: Failure) -> bool:
        """Let the job wait for another attempt, unless its server wants to be left alone for too long."""
        asked = failure.retry_after_s or 0.0
        if asked > self.persistence.max_wait_s:
            return False
        now = self.loop.time()
        if asked:
            self.hosts.hold(host, now + asked)
        pause = self.persistence.backoff_s * 2 ** (job.attempts - 1) * jitter(job.key, job.attempts)
        self.loop.call_later(max(pause, asked), self._try_again, job)
        return True

    def _try_again(self, job: Job) -> None:
        self._wait(job)
        self._pump()

    def _give_up(self, job: Job) -> None:
        times = self.hosts.courtesy.given_up_after
        detail = f"{job.target.host} gave no answer {times} times in a row; this row's picture was not asked for"
        self._end(job, Failure("host-down", detail, times), sure=False)

    def _end(self, job: Job, failure: Failure, sure: bool) -> None:
        """A row has failed; if no host answered, that is noted only when it is known that there is no outage."""
        if sure:
            job.shard.note(job.key, outcome_of(failure))
        else:
            job.shard.unsure.append((job.key, outcome_of(failure)))
        self._close(job.shard)

    def _close(self, shard: Shard) -> None:
        """One row less is open; the last one finishes the shard, unless an outage may be the reason."""
        shard.open -= 1
        if not shard.open and not (shard.unsure and self.outage.testing):
            shard.settle()


class _Outage:
    """Tells an outage here from dead hosts there: after many silent rows it asks for a picture that came before."""

    def __init__(self, traffic: _Traffic) -> None:
        self.traffic = traffic
        self.silent: Counter[str] = Counter()  # reasons of the rows in a row
        self.canary: Target | None = None
        self.testing = False

    def over(self, target: Target | None) -> None:
        """A host answered."""
        self.canary = target or self.canary
        if self.silent:
            self.silent.clear()
            for shard in self.traffic.shards:
                shard.settle()

    def suspect(self, failure: Failure) -> None:
        """A row ended without an answer."""
        self.silent[failure.reason] += 1
        after = self.traffic.persistence.outage_after
        if after is not None and self.silent.total() >= after and not self.testing:
            self.testing = True
            self.traffic.spawn(self._test())

    async def _test(self) -> None:
        try:
            if self.canary is not None:
                await self.traffic.fetcher.attempt(self.canary)
        except Failure as failure:
            if failure.reason in SILENT:
                raise self._error() from failure
        else:
            if self.canary is None:
                raise self._error()
        finally:
            self.testing = False
        self.over(None)

    def _error(self) -> RunError:
        reasons = ", ".join(f"{rows} {reason}" for reason, rows in self.silent.most_common())
        known = f", nor does {self.canary.host}, which answered before" if self.canary else ""
        return RunError(
            f"the network seems to be down: no host answers any more ({reasons}){known}",
            "stage download",
            "mend the network or the name server and run the same command again: finished rows are kept; "
            "if these hosts are really gone, set download.outage_after to null",
        )


def jitter(key: bytes, attempt: int) -> float:
    """A factor from 0.5 to 1.5 that spreads the retries of many rows; the same for the same row and attempt."""
    return 0.5 + zlib.crc32(key + bytes([attempt & 255])) / 2**32


def allow_connections(wanted: int) -> None:
    """Raise this process's limit of open files as far as it may be; many systems start with 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
