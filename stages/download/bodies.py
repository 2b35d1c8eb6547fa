"""What came and has no outcome yet: noted if it has to wait for a decoder, so that a kill forgets next to nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any

from stages.download.decoders import Decoders, Decoding
from stages.download.fetch import Fetched
from stages.download.host import Job

WAITING_BYTES = 96 << 20  # of bodies that wait to be decoded. Beyond that nothing more is fetched

Spawn = Callable[[Coroutine[Any, Any, None], Job], asyncio.Task[None]]


class Bodies:
    """Belongs to the event loop it is used on. A body that is not noted is in a decoder."""

    def __init__(self, decoding: Decoding, spawn: Spawn, decoded: Callable[[Job], None]) -> None:
        """spawn: starts the work for a row; decoded: told of each row whose outcome is noted."""
        self.waiting = 0  # bytes of bodies that are not decoded, those in decoders too
        self.decoders = Decoders(decoding)
        self._spawn, self._decoded = spawn, decoded

    @property
    def behind(self) -> bool:
        """Whether so much waits that no more should be fetched."""
        return self.waiting > WAITING_BYTES

    def take(self, job: Job, fetched: Fetched) -> None:
        """Decode what came for a row, as soon as a decoder is free."""
        if self.decoders.busy:
            job.shard.keep(job, fetched)
        self.waiting += len(fetched.body)
        self._spawn(self._decode(job, fetched), job)

    def resume(self, jobs: Sequence[Job]) -> None:
        """Decode what a killed run noted for these rows of a shard."""
        left = iter(jobs)
        for job in jobs[: self.decoders.decoding.processes]:
            self._spawn(self._one_by_one(left), job)

    def close(self) -> None:
        self.decoders.close()

    async def _one_by_one(self, jobs: Iterator[Job]) -> None:
        """So that few bodies of a shard are in memory at a time."""
        for job in jobs:
            if job.shard.finished.done():  # abandoned
                return
            await asyncio.wait([self._spawn(self._decode_kept(job), job)])

    async def _decode_kept(self, job: Job) -> None:
        fetched = job.shard.kept(job)
        self.waiting += len(fetched.body)
        await self._decode(job, fetched)

    async def _decode(self, job: Job, fetched: Fetched) -> None:
        """Of a body that is counted as waiting."""
        try:
            found, picture = await self.decoders.outcome(fetched.body, fetched.kind, job.checksum)
        finally:
            self.waiting -= len(fetched.body)
        job.shard.note(job.key, {**found, "attempts": job.tries}, picture)
        self._decoded(job)
