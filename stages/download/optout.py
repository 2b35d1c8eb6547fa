"""How owners reserve their pictures: X-Robots-Tag, the TDM reservation header, and robots.txt."""

from __future__ import annotations

import asyncio
import codecs
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from protego import Protego

from stages.download.address import Target
from stages.download.failure import Failure

# img2dataset's words (noai, noimageai, noindex, noimageindex) and noml. None means noindex and nofollow.
DIRECTIVES = ("noai", "noimageai", "noindex", "noimageindex", "noml", "none")
# Directives of X-Robots-Tag with a colon of their own. Before any other colon stands the name of a robot.
WITH_VALUE = frozenset({"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"})
ROBOTS_BYTES = 512 << 10  # of a robots.txt that count (RFC 9309 asks for at least 500 KiB)
REMEMBERED = 20_000  # hosts whose robots.txt is kept
REST_S = 600.0  # until a robots.txt is asked for again that could not be had several times
LONGEST_DELAY_S = 1e9  # of a Crawl-delay
UNREADABLE = frozenset({"tls", "bad-answer"})  # permanent failures after which nobody knows what the owner wants
# "noindex. Noai" is no list by the rule (RFC 9110, 5.6.1), but it is clear what its owner means.
SEPARATORS = re.compile("[,;]")
ROBOT = re.compile(r"\*|[a-z][a-z0-9_.-]*(/[^\s/]*)?")  # "25 jun 2031 15" of a date is none
VERSIONED = re.compile(r"(?im)^([ \t]*user[ \t-]*agent[ \t]*:[ \t]*[^#/\r\n]+)/[^#\r\n]*")
LONGEST_S = 86_400.0  # that a robots.txt which cannot be had is not asked for again
Origin = tuple[str, str, int]  # scheme, host, port


def robot_name(user_agent: str) -> str:
    """How owners address this program: the User-Agent up to its version."""
    return user_agent.split("/")[0].strip().lower()


def opt_out(values: Sequence[str], user_agent: str, directives: Sequence[str] = DIRECTIVES) -> str | None:
    """The directive of X-Robots-Tag headers by which all robots, or this one, are asked to leave the picture alone."""
    robot = robot_name(user_agent)
    for value in values:
        addressed = True
        for part in SEPARATORS.split(value.lower()):
            name, colon, rest = (piece.strip() for piece in part.partition(":"))
            if colon and name not in WITH_VALUE and ROBOT.fullmatch(name):
                addressed = robot_name(name) in (robot, "*")
                name = rest
            if addressed and name in directives:
                return name
    return None


def reserved(values: Sequence[str]) -> bool:
    """Whether one of the TDM-Reservation headers reserves the rights to mining (W3C TDMRep: 1 does, 0 does not)."""
    return any(part.strip() == "1" for value in values for part in SEPARATORS.split(value))


def read_robots(body: bytes) -> str:
    """The text of a robots.txt, by its byte order mark or as UTF-8. Versions behind the names of robots are dropped."""
    coding = "utf-16" if body.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    text = body[:ROBOTS_BYTES].decode(coding, "replace").replace("\0", "")
    return VERSIONED.sub(r"\1", "\n".join(text.splitlines()))


@dataclass(frozen=True)
class Rules:
    """What a host's robots.txt says to this program."""

    parsed: Protego | None  # None: everything is allowed
    pause_s: float = 0.0  # between two requests, by Crawl-delay

    def refuse(self, target: Target, user_agent: str) -> None:
        """Raises Failure opt-out."""
        if self.parsed is not None and not self.parsed.can_fetch(target.url, robot_name(user_agent)):
            failure = Failure("opt-out", "robots.txt")
            failure.asked = False
            raise failure


@dataclass(frozen=True)
class _Failed:
    """A robots.txt that could not be had: why, how often in a row, and when it may be asked for again."""

    why: Failure
    times: int
    until: float

    def raised(self, now: float) -> Failure:
        failure = Failure(self.why.reason, self.why.detail, retry_after_s=max(0.0, self.until - now))
        failure.asked = False
        return failure


class Robots:
    """robots.txt of every host met, asked for once (RFC 9309).

    `get` fetches a robots.txt: (status, text, Retry-After in seconds), or raises Failure. A status 4xx means that there
    are no rules. As long as the host fails to answer, so do its pictures, with the same reason, and robots.txt is asked
    for again only after again_s, doubled each time, or after the Retry-After that came with it. After `tries` failures
    in a row only after REST_S.
    """

    def __init__(
        self,
        get: Callable[[Target], Awaitable[tuple[int, bytes, float | None]]],
        user_agent: str,
        again_s: float = 0.5,
        tries: int = 3,
    ) -> None:
        self.get = get
        self.tries = tries
        self.user_agent = user_agent
        self.again_s = again_s
        self._known: OrderedDict[Origin, asyncio.Task[Rules]] = OrderedDict()
        self._failed: dict[Origin, _Failed] = {}

    async def rules(self, target: Target) -> Rules:
        """Those of the target's host. Raises Failure if they cannot be had now, with the time until they may be."""
        origin = (target.scheme, target.host, target.port)
        now = asyncio.get_running_loop().time()
        if (failed := self._failed.get(origin)) and now < failed.until:
            raise failed.raised(now)
        task = self._known.get(origin)
        if task is None:
            task = self._known[origin] = asyncio.ensure_future(self._asked(origin, target))
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return await asyncio.shield(task)

    async def _asked(self, origin: Origin, target: Target) -> Rules:
        try:
            rules = await self._ask(target)
        except Failure as failure:
            self._known.pop(origin, None)
            now, failed = asyncio.get_running_loop().time(), self._failed.get(origin)
            times = failed.times + 1 if failed else 1
            again_s = self.again_s * 2 ** (times - 1) if failure.temporary and times < self.tries else REST_S
            pause = min(max(again_s, failure.retry_after_s or 0.0), LONGEST_S)
            self._failed[origin] = _Failed(failure, times, now + pause)
            while len(self._failed) > REMEMBERED:
                del self._failed[next(iter(self._failed))]
            raise self._failed[origin].raised(now) from failure
        except BaseException:
            self._known.pop(origin, None)
            raise
        else:
            self._failed.pop(origin, None)
            return rules

    async def _ask(self, target: Target) -> Rules:
        where = Target(target.scheme, target.host, target.port, "/robots.txt")
        try:
            status, body, retry_after_s = await self.get(where)
        except Failure as failure:
            if failure.temporary or failure.reason in UNREADABLE:
                raise Failure(failure.reason, f"robots.txt: {failure.detail}") from failure
            return Rules(None)  # a redirect into the void is as good as no robots.txt
        if status == 429 or status >= 500:
            reason = "rate-limited" if status == 429 else "http-5xx"
            raise Failure(reason, f"robots.txt: status {status}", retry_after_s=retry_after_s)
        if not 200 <= status < 300 or not body.strip():
            return Rules(None)
        parsed = Protego.parse(read_robots(body))
        return Rules(parsed, min(float(parsed.crawl_delay(robot_name(self.user_agent)) or 0), LONGEST_DELAY_S))
