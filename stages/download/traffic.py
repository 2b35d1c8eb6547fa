"""All that happens on the event loop: who is asked next, what is tried again, what is decoded, when to stop."""

from __future__ import annotations

import asyncio
import traceback
import zlib
from collections.abc import Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any

from pairloom.errors import PairloomError, RunError
from stages.download.decoders import Decoders, Decoding
from stages.download.failure import Failure
from stages.download.fetch import Fetched, Fetcher, Manners
from stages.download.hosts import Courtesy, Host, Hosts, Job
from stages.download.outage import Outage
from stages.download.shard import Shard, outcome_of

WAITING_BYTES = 96 << 20  # of bodies that wait to be decoded; beyond that nothing more is fetched


@dataclass(frozen=True, kw_only=True)
class Persistence:
    """How often and how long a row is tried."""

    retries: int = 2  # after the first attempt
    backoff_s: float = 0.5  # pause before the first retry, doubled before each further one
    max_wait_s: float = 60.0  # the longest pause that a server may ask for; who asks for more is not asked again
    outage_after: int | None = 1000  # rows in a row that no host answered, after which the network is tested


class Traffic:
    """Belongs to the loop it is made on; the engine's other thread only schedules `begin` and `abandon`."""

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
        self.outage = Outage(self.fetcher, persistence.outage_after, self._settle, self.spawn)

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

    def _settle(self) -> None:
        for shard in self.shards:
            shard.settle()

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
            self.spawn(self._fetch(job), job)
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if (moment := self.hosts.next_time()) is not None and self.active < self.connections:
            self.timer = self.loop.call_at(moment, self._pump)

    def spawn(self, work: Coroutine[Any, Any, None], job: Job | None = None) -> None:
        """Do this meanwhile. job: the row that it is for, which an unexpected error belongs to."""
        task = self.loop.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(partial(self._ended, job))

    def _ended(self, job: Job | None, task: asyncio.Task[None]) -> None:
        """An unexpected error of a row's task is that row's outcome; any other ends every shard in work."""
        self.tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        if job is None or job.ended or isinstance(error, PairloomError) or not isinstance(error, Exception):
            self.stop(error)
        else:
            job.shard.errors.append((job.key, error, job.attempts))
            self._close(job)

    def stop(self, error: BaseException) -> None:
        """End every shard in work; with an error that the caller does not take for that of one of its rows."""
        if not isinstance(error, PairloomError):
            error = engine_failed(error)
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
            self.spawn(self._decode(job, fetched), job)
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
        self._close(job)
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
        self._close(job)

    def _close(self, job: Job) -> None:
        """One row less is open; the last one finishes the shard, unless an outage may be the reason."""
        shard, job.ended = job.shard, True
        shard.open -= 1
        if not shard.open and not (shard.unsure and self.outage.testing):
            shard.settle()


def engine_failed(error: BaseException) -> RunError:
    return RunError(
        "download failed outside of any row\n" + "".join(traceback.format_exception(error)),
        where="stages/download",
        fix="run the same command again: finished rows are kept; if it fails again, report the bug",
    )


def jitter(key: bytes, attempt: int) -> float:
    """A factor from 0.5 to 1.5 that spreads the retries of many rows; the same for the same row and attempt."""
    return 0.5 + zlib.crc32(key + bytes([attempt & 255])) / 2**32
