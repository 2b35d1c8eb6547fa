"""Asking the hostile server with short limits, once or as the engine does."""

from __future__ import annotations

import asyncio
from typing import Any

from stages.download.address import parse
from stages.download.decoders import Decoding
from stages.download.engine import Engine
from stages.download.failure import Failure
from stages.download.fetch import Fetched, Fetcher, Manners
from stages.download.host import Courtesy
from stages.download.names import Doors
from stages.download.persistence import Persistence
from stages.download.pictures import Limits
from stages.download.spool import key_of
from tests.stages.download.hostile import HostileServer, jpeg

JPEG = jpeg()
LONG = 20.0  # seconds that no busy machine takes, but what is not cut short does


def manners(server: HostileServer, **changes: Any) -> Manners:
    """Short limits. The hostile server is reachable by the name `mirror.invalid`, and by no other."""
    settings: dict[str, Any] = {
        "doors": Doors(mapped={"mirror.invalid": ("127.0.0.1", server.port)}),
        "timeout_s": 2.0,
        "header_timeout_s": 1.5,
        "max_redirects": 3,
        "max_bytes": 1 << 20,
        "user_agent": "pairloom/0 (test)",
        "robots": False,
    }
    return Manners(**{**settings, **changes})


def get(server: HostileServer, path: str, **changes: Any) -> Fetched:
    """One attempt."""
    return fetch(server, f"http://mirror.invalid{path}", **changes)


def fetch(server: HostileServer, url: str, **changes: Any) -> Fetched:
    async def attempt() -> Fetched:
        fetcher = Fetcher(manners(server, **changes))
        try:
            return (await fetcher.attempt(parse(url)))[0]
        finally:
            await fetcher.close()

    return asyncio.run(attempt())


def outcomes(
    server: HostileServer, urls: list[str], retries: int = 0, backoff_s: float = 0.01, **changes: Any
) -> list[dict[str, Any]]:
    """What the engine makes of URLs."""
    persistence = Persistence(retries=retries, backoff_s=backoff_s, outage_after=None)
    decoding = Decoding(Limits(max_pixels=1_000_000, max_side=256, quality=90), processes=1)
    engine = Engine(manners(server, **changes), Courtesy(pause_s=0.0), persistence, decoding)
    with engine.run([(url, None) for url in urls], None) as spool:
        found = [spool.get(key_of(url, None))[0] for url in urls]
    engine.close()
    return found


def refused(server: HostileServer, path: str, retries: int = 0, backoff_s: float = 0.01, **changes: Any) -> Failure:
    """The failure that a row ends with."""
    (found,) = outcomes(server, [f"http://mirror.invalid{path}"], retries, backoff_s, **changes)
    return Failure(found["reason"], found["detail"], found["attempts"])
