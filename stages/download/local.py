"""Rows whose pictures lie in a source (formats/locators.py): read in a thread, one shard after another, then decoded.

What follows the reading is what a body from the web meets: sniffed, decoded in another process, noted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from formats.pictures import Found, SourceError, Sources
from pairloom.errors import PairloomError
from stages.download.bodies import Bodies
from stages.download.failure import Failure
from stages.download.finished import LINKED
from stages.download.kinds import sniff
from stages.download.places import Places, Wanted
from stages.download.shard import Shard
from stages.download.spool import Outcome

HOP_BYTES = 4 << 20  # that the thread reads before it hands them over
HOP_PICTURES = 64
IN_WORK = 64  # pictures that wait to be decoded
HEAD = 32  # bytes that suffice to tell the kind of a picture


class Owner(Protocol):
    """What a Reading needs of the Traffic that it belongs to."""

    bodies: Bodies

    def one_less(self, shard: Shard, /) -> None: ...

    def spawn(self, work: Coroutine[Any, Any, None], /) -> object: ...


class Reading:
    """Reads from sources for the shards of one Traffic, on whose loop it is used."""

    def __init__(self, places: Places, traffic: Owner) -> None:
        self.traffic = traffic
        self.linked = places.linked
        self.sources = Sources(dict(places.folders), places.kept, places.max_bytes)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sources")
        self._turn = asyncio.Lock()  # one shard at a time, so that a disk is read forward
        self._places = asyncio.Semaphore(IN_WORK)

    def close(self) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)
        self.sources.close()

    async def read(self, shard: Shard, wanted: Sequence[Wanted]) -> None:
        """Make an outcome of each of these rows."""
        loop = asyncio.get_running_loop()
        async with self._turn:
            found = self.sources.read([each.locator for each in wanted])
            while not shard.finished.done():
                while self.traffic.bodies.behind:
                    await asyncio.sleep(0.005)
                hop = await loop.run_in_executor(self._thread, _hop, found)
                for number, body in hop:
                    await self._one(shard, wanted[number], body)
                if not hop:
                    return

    async def _one(self, shard: Shard, row: Wanted, found: Found) -> None:
        if isinstance(found, PairloomError):
            raise found
        if isinstance(found, SourceError):
            self._failed(shard, row, Failure(found.reason, found.detail))
        elif isinstance(found, Exception):
            shard.errors.append((row.key, found, 1))
            self.traffic.one_less(shard)
        elif (kind := sniff(found[:HEAD])) is None:
            said = f"it starts with {found[:12]!r}" if found else "it is empty"
            self._failed(shard, row, Failure("not-an-image", said))
        else:
            await self._places.acquire()
            self.traffic.bodies.waiting += len(found)
            self.traffic.spawn(self._decode(shard, row, found, kind))

    def _failed(self, shard: Shard, row: Wanted, failure: Failure) -> None:
        shard.note(row.key, {"reason": failure.reason, "detail": failure.detail, "attempts": 1})
        self.traffic.one_less(shard)

    async def _decode(self, shard: Shard, row: Wanted, body: bytes, kind: str) -> None:
        try:
            outcome, picture = await self.traffic.bodies.decoders.outcome(body, kind, row.checksum)
            done: Outcome = {**outcome, "attempts": 1}
            if outcome.get("kept") and row.locator.source in self.linked:
                done, picture = {**done, LINKED: len(body)}, b""
            shard.note(row.key, done, picture)
        except PairloomError:
            raise
        except Exception as error:  # noqa: BLE001  # it costs that row only
            shard.errors.append((row.key, error, 1))
        finally:
            self.traffic.bodies.waiting -= len(body)
            self._places.release()
        self.traffic.one_less(shard)


def _hop(found: Iterator[tuple[int, Found]]) -> list[tuple[int, Found]]:
    """The next pictures, up to a few megabytes. None at the end."""
    taken: list[tuple[int, Found]] = []
    size = 0
    for number, body in found:
        taken.append((number, body))
        size += len(body) if isinstance(body, bytes) else 0
        if size >= HOP_BYTES or len(taken) == HOP_PICTURES:
            break
    return taken
