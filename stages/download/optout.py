"""How owners reserve their pictures: X-Robots-Tag, the TDM reservation header, and robots.txt."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from protego import Protego

from stages.download.address import Target
from stages.download.failure import Failure

# img2dataset's words (noai, noimageai, noindex, noimageindex) and noml; none means noindex and nofollow.
DIRECTIVES = ("noai", "noimageai", "noindex", "noimageindex", "noml", "none")
# Directives of X-Robots-Tag with a colon of their own; before any other colon stands the name of a robot.
WITH_VALUE = frozenset({"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"})
ROBOTS_BYTES = 512 << 10  # of a robots.txt that count (RFC 9309 asks for at least 500 KiB)
REMEMBERED = 20_000  # hosts whose robots.txt is kept


def robot_name(user_agent: str) -> str:
    """How owners address this program: the User-Agent up to its version."""
    return user_agent.split("/")[0].strip().lower()


def opt_out(values: Sequence[str], user_agent: str, directives: Sequence[str] = DIRECTIVES) -> str | None:
    """The directive of X-Robots-Tag headers by which all robots, or this one, are asked to leave the picture alone."""
    robot = robot_name(user_agent)
    for value in values:
        addressed = True
        for part in value.lower().split(","):
            name, colon, rest = part.strip().partition(":")
            if colon and name.strip() not in WITH_VALUE:
                addressed = name.strip() in (robot, "*")
                name = rest
            if addressed and name.strip() in directives:
                return name.strip()
    return None


def reserved(value: str | None) -> bool:
    """Whether a TDM-Reservation header reserves the rights to mining (W3C TDM Reservation Protocol: 1, not 0)."""
    return (value or "").strip() == "1"


@dataclass(frozen=True)
class Rules:
    """What a host's robots.txt says to this program."""

    parsed: Protego | None  # None: everything is allowed
    pause_s: float = 0.0  # between two requests, by Crawl-delay

    def refuse(self, target: Target, user_agent: str) -> None:
        """Raises Failure opt-out."""
        if self.parsed is not None and not self.parsed.can_fetch(target.url, robot_name(user_agent)):
            raise Failure("opt-out", "robots.txt")


class Robots:
    """robots.txt of every host met, asked for once (RFC 9309).

    `get` fetches a robots.txt: (status, text), or raises Failure. A status 4xx means that there are no rules. As long
    as the host fails to answer, so do its pictures, with the same reason; they may be tried again.
    """

    def __init__(self, get: Callable[[Target], Awaitable[tuple[int, bytes]]], user_agent: str) -> None:
        self.get = get
        self.user_agent = user_agent
        self._known: OrderedDict[tuple[str, str, int], asyncio.Task[Rules]] = OrderedDict()

    async def rules(self, target: Target) -> Rules:
        """Those of the target's host. Raises Failure if they cannot be had now."""
        origin = (target.scheme, target.host, target.port)
        task = self._known.get(origin)
        if task is None:
            task = self._known[origin] = asyncio.ensure_future(self._ask(target))
            task.add_done_callback(lambda done: self._forget_failure(origin, done))
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return await asyncio.shield(task)

    def _forget_failure(self, origin: tuple[str, str, int], done: asyncio.Task[Rules]) -> None:
        if done.cancelled() or done.exception():
            self._known.pop(origin, None)

    async def _ask(self, target: Target) -> Rules:
        where = Target(target.scheme, target.host, target.port, "/robots.txt")
        try:
            status, body = await self.get(where)
        except Failure as failure:
            if failure.temporary or failure.reason == "tls":
                raise Failure(failure.reason, f"robots.txt: {failure.detail}") from failure
            return Rules(None)  # a redirect into the void is as good as no robots.txt
        if status == 429 or status >= 500:
            raise Failure("rate-limited" if status == 429 else "http-5xx", f"robots.txt: status {status}")
        if not 200 <= status < 300 or not body.strip():
            return Rules(None)
        parsed = Protego.parse(body[:ROBOTS_BYTES].decode("utf-8", "replace"))
        return Rules(parsed, float(parsed.crawl_delay(robot_name(self.user_agent)) or 0))
