"""All that happens on the event loop: who is asked next, what is tried again, what is decoded, when to stop."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from functools import partial
from typing import Any

from pairloom.errors import PairloomError
from stages.download.bodies import Bodies
from stages.download.decoders import Decoding
from stages.download.failure import Failure
from stages.download.fetch import Fetcher, Manners
from stages.download.host import Courtesy, Host, Job
from stages.download.hosts import Hosts
from stages.download.local import Reading
from stages.download.news import news
from stages.download.outage import Outage
from stages.download.persistence import Persistence
from stages.download.places import Places
from stages.download.shard import Shard, engine_failed, outcome_of

MOST_REFUSALS = 12  # of one row for its host's rate that do not count as attempts


class Traffic:
    """Belongs to the loop it is made on. The engine's other thread only schedules `begin` and `abandon`."""

    def __init__(
        self,
        manners: Manners,
        courtesy: Courtesy,
        persistence: Persistence,
        decoding: Decoding,
        places: Places,
    ) -> None:
        self.persistence = persistence
        self.connections = manners.connections
        self.fetcher = Fetcher(manners)
        self.bodies = Bodies(decoding, self.spawn, self._decoded)
        self.hosts = Hosts(courtesy)
        self.reading = Reading(places, self)
        self.loop = asyncio.get_running_loop()
        self.active = 0
        self.shards: list[Shard] = []
        self.tasks: set[asyncio.Task[None]] = set()
        self.timer: asyncio.TimerHandle | None = None
        self.closing = False
        self.report: asyncio.TimerHandle | None = None
        self.idle_since: float | None = None  # since when nothing can be done but wait for hosts
        self.outage = Outage(self.fetcher, persistence.outage_after, self._settle, self.spawn)

    async def close(self) -> None:
        self.closing = True
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.reading.close()
        self.bodies.close()
        await self.fetcher.close()

    def begin(self, shard: Shard) -> None:
        self.shards.append(shard)
        if self.report is None:
            self._report_later()
        self.outage.canary = self.outage.canary or shard.came
        shard.finished.add_done_callback(lambda _: self.loop.call_soon_threadsafe(self._forget, shard))
        for job in shard.jobs:
            self.hosts.of(job).open += 1
            if not shard.spool.has_body(job.key):
                self.hosts.add(job, self.loop.time())
        self.bodies.resume([job for job in shard.jobs if shard.spool.has_body(job.key)])
        if shard.wanted:
            self.spawn(self.reading.read(shard, shard.wanted))
        self._pump()

    def abandon(self, shard: Shard) -> None:
        self._forget(shard)
        self.hosts.drop(lambda job: job.shard is shard)
        for job in shard.jobs:
            self._is_over(job)
        shard.finished.cancel()  # so that nothing more is noted
        shard.spool.close()

    def _forget(self, shard: Shard) -> None:
        if shard in self.shards:
            self.shards.remove(shard)
            self._report_later()

    def _report_later(self) -> None:
        """Say in a while what is waited for, unless a shard is finished until then."""
        if self.report is not None:
            self.report.cancel()
        self.report = self.loop.call_later(self.persistence.report_s, self._report) if self.shards else None

    def _report(self) -> None:
        print(news(self.shards, self.hosts.all(), self.loop.time()), file=sys.stderr, flush=True)
        self._report_later()

    def _settle(self) -> None:
        for shard in self.shards:
            shard.settle()

    def _pump(self) -> None:
        """Start as many fetches as there are free connections and hosts that may be asked."""
        now = self.loop.time()
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if self.idle_since is not None:
            self.hosts.idle_s += now - self.idle_since
            self.idle_since = None
        while self.active < self.connections:
            # A host set aside costs a connection and hardly any work: it may be tried while decoding is behind.
            job = self.hosts.take(now, only_aside=self.bodies.behind)
            if job is None:
                break
            self.active += 1
            self.spawn(self._fetch(job), job)
        if (moment := self.hosts.next_time()) is not None and self.active < self.connections:
            self.timer = self.loop.call_at(moment, self._pump)
            self.idle_since = None if self.active or self.bodies.waiting else now
        self._end_lost()

    def _end_lost(self) -> None:
        """End the rows that were given up with their hosts. One that had failed before ends as it did then."""
        for job, why in self.hosts.lost():
            failure = job.failure or why
            self._end(job, failure, sure=not failure.silent and failure.reason != "host-down")

    def spawn(self, work: Coroutine[Any, Any, None], job: Job | None = None) -> asyncio.Task[None]:
        """Do this meanwhile. job: the row that it is for, which an unexpected error belongs to."""
        task = self.loop.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(partial(self._ended, job))
        return task

    def _ended(self, job: Job | None, task: asyncio.Task[None]) -> None:
        """An unexpected error of a row's task is that row's outcome. Any other ends every shard in work."""
        self.tasks.discard(task)
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is None or self.closing:
            return
        its_own = isinstance(error, Exception | asyncio.CancelledError) and not isinstance(error, PairloomError)
        if job is None or not its_own:
            self.stop(error)
        elif not job.ended:
            job.shard.errors.append((job.key, error, job.tries))
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
            failure.attempts = job.tries
            self._failed(job, host, failure)
        else:
            self.hosts.answer(host, rules.pause_s)
            self.hosts.progress(host)
            self.outage.over(job.target)
            self.bodies.take(job, fetched)
        finally:
            self.active -= 1
            self.hosts.done(host, self.loop.time())
            self._pump()

    def _decoded(self, job: Job) -> None:
        self._close(job)
        self._pump()

    def _failed(self, job: Job, host: Host, failure: Failure) -> None:
        job.failure = failure
        self._judge(job, host, failure)
        if failure.temporary and not host.given_up and self._again(job, host, failure):
            return
        if failure.silent:
            self.outage.suspect(failure)
        else:
            self.outage.over(None)
        self._end(job, failure, sure=not failure.silent)

    def _judge(self, job: Job, host: Host, failure: Failure) -> None:
        """Note what a failed attempt says of the row's host."""
        now = self.loop.time()
        if failure.silent:
            self.hosts.silence(host, now)
        else:
            self.hosts.answer(host, failure.crawl_delay_s)
        if not failure.asked:
            self.hosts.unasked(host, job)
        if failure.temporary:
            self.hosts.fruitless(host, now)
        else:
            self.hosts.progress(host)
        too_long = self.persistence.too_long(failure)
        if failure.refusal:
            self.hosts.refusal(host, job, now, too_long)
        if failure.retry_after_s and not failure.redirected and not too_long:
            self.hosts.hold(host, now + failure.retry_after_s)

    def _again(self, job: Job, host: Host, failure: Failure) -> bool:
        """Let the job wait for another attempt, unless its server wants to be left alone for too long.

        An attempt that a host refused for its rate does not count as long as other rows of the host come through.
        """
        if self.persistence.too_long(failure):
            return False
        if failure.refusal and host.done > job.seen and job.refused < MOST_REFUSALS:
            job.refused, job.seen = job.refused + 1, host.done
            self.hosts.add(job, self.loop.time())
            return True
        if (pause := self.persistence.pause_s(job, failure)) is None:
            return False
        if failure.redirected:  # else the whole host waits for its Retry-After, and this row with the others
            pause = max(pause, failure.retry_after_s or 0.0)
        self.loop.call_later(pause, self._try_again, job)
        return True

    def _try_again(self, job: Job) -> None:
        self.hosts.add(job, self.loop.time())
        self._pump()

    def _end(self, job: Job, failure: Failure, sure: bool) -> None:
        """A row has failed; if no host answered, that is noted only when it is known that there is no outage."""
        if sure:
            job.shard.note(job.key, outcome_of(failure))
        else:
            job.shard.unsure.append((job.key, outcome_of(failure)))
        self._close(job)

    def _close(self, job: Job) -> None:
        """One row less is open. The last one finishes the shard, unless an outage may be the reason."""
        if self._is_over(job):
            self.one_less(job.shard)

    def one_less(self, shard: Shard) -> None:
        """A row of a shard has its outcome."""
        shard.open -= 1
        shard.count.add()
        if not shard.open and not (shard.unsure and self.outage.testing):
            shard.settle()

    def _is_over(self, job: Job) -> bool:
        """Note that a row's outcome is known, or that nobody wants it any more. False if that was noted before."""
        if not job.ended:
            job.ended = True
            self.hosts.of(job).open -= 1
            return True
        return False
