"""Runs many fetches at once on one event loop, in a thread of its own as long as the worker lives.

So several shards can be in work at once: while one waits for its last slow servers, the next ones use the connections.
What hosts, names and robots.txt have said is remembered from shard to shard.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import threading
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from stages.download.decoders import Decoding
from stages.download.fetch import Manners
from stages.download.host import Courtesy
from stages.download.persistence import Persistence
from stages.download.places import Places
from stages.download.shard import Shard
from stages.download.spool import Spool
from stages.download.traffic import Traffic

Row = tuple[str, str | None]  # url, checksum


class Engine:
    """Downloads shards. `run` may be called from several threads."""

    def __init__(
        self,
        manners: Manners,
        courtesy: Courtesy,
        persistence: Persistence,
        decoding: Decoding,
        places: Places | None = None,
    ) -> None:
        self.manners, self.courtesy, self.persistence, self.decoding = manners, courtesy, persistence, decoding
        self.places = places or Places()
        self._lock = threading.Lock()
        self._running: _Running | None = None

    def run(self, rows: Sequence[Row], folder: Path | None) -> Spool:
        """What became of each (url, checksum), by `spool.key_of`. To be closed by the caller.

        folder: where what is finished is noted row by row, and found again after a crash. Raises RunError in an
        outage, and if most rows end in errors that nobody expected. One such row is an outcome: stage-error.
        """
        shard = Shard(Spool(folder), self.places)
        for url, checksum in dict.fromkeys(rows):
            shard.plan(url, checksum)
        shard.count.reach(shard.rows - shard.open)
        if not shard.open:
            shard.settle()
            shard.finished.result()
        else:
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
        made = partial(Traffic, engine.manners, engine.courtesy, engine.persistence, engine.decoding, engine.places)
        self.traffic = asyncio.run_coroutine_threadsafe(_call(made), self.loop).result()

    def stop(self) -> None:
        if self.loop.is_closed():
            return
        with contextlib.suppress(TimeoutError):  # at exit, the thread is a daemon
            asyncio.run_coroutine_threadsafe(self.traffic.close(), self.loop).result(timeout=5)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(timeout=5)
        if not self.thread.is_alive():
            self.loop.close()


async def _call(make: Callable[[], Traffic]) -> Traffic:
    """Run on the loop what needs to find it running."""
    return make()


def allow_connections(wanted: int) -> None:
    """Raise this process's limit of open files as far as it may be. Many systems start with 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
