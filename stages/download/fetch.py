"""Fetch one URL once under all guards: redirects, opt-outs, limits. Whether to try again is the engine's to say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import aiohttp

from stages.download.address import Target, follow
from stages.download.failure import Failure
from stages.download.kinds import sniff
from stages.download.names import NO_ANSWER, Doors
from stages.download.optout import DIRECTIVES, Robots, Rules, opt_out, reserved
from stages.download.packing import Unpacker, as_far_as_possible, packings
from stages.download.statuses import REDIRECTS, refuse_status, seconds
from stages.download.wire import Wire, explained

ROBOTS_BYTES = 1 << 20  # of a robots.txt that are read
HEAD = 32  # bytes that suffice to tell the kind of a picture
NO_RULES = Rules(None)


@dataclass(frozen=True, kw_only=True)
class Manners:
    """The rules of fetching."""

    doors: Doors
    timeout_s: float  # for one attempt: look-up, connections, redirects and body together
    header_timeout_s: float  # until the headers of one hop are there
    max_redirects: int
    max_bytes: int  # of the decompressed body
    user_agent: str
    robots: bool = True  # heed robots.txt
    robots_again_s: float = 0.5  # until a robots.txt that could not be had is asked for again, doubled each time
    robots_tries: int = 3  # after which it is left alone for ten minutes
    directives: tuple[str, ...] = DIRECTIVES  # of X-Robots-Tag that count
    tdm: bool = True  # heed TDM-Reservation
    held_bytes: int = 512 << 20  # of bodies in work, over all connections of the process
    connections: int = 256


@dataclass(frozen=True)
class Fetched:
    """A body that is a picture by its first bytes, decompressed."""

    body: bytes
    kind: str  # as kinds.sniff names it


class Fetcher:
    """Makes attempts. Belongs to the event loop it is made on."""

    def __init__(self, manners: Manners) -> None:
        self.manners = manners
        self.wire = Wire(manners.doors, manners.user_agent)
        self.robots = Robots(self._robots_txt, manners.user_agent, manners.robots_again_s, manners.robots_tries)
        self._held = 0  # bytes of bodies that are being read

    async def close(self) -> None:
        await self.wire.close()

    async def attempt(self, target: Target) -> tuple[Fetched, Rules]:
        """The picture behind `target`, and what its host's robots.txt says. Raises Failure.

        robots.txt has a deadline of its own, since all pictures of a host wait for it.
        """
        rules = await self._allowed(target)
        with with_crawl_delay(rules.pause_s), within(self.manners.timeout_s):
            async with (
                asyncio.timeout(self.manners.timeout_s) as deadline,
                self._followed(target, "image/*", deadline, check=True) as response,
            ):
                refuse_status(response.status, response.headers.get("Retry-After"))
                return await self._body(response), rules

    async def _allowed(self, target: Target) -> Rules:
        if not self.manners.robots:
            return NO_RULES
        self.manners.doors.admit_literal(target)
        rules = await self.robots.rules(target)
        with with_crawl_delay(rules.pause_s):
            rules.refuse(target, self.manners.user_agent)
        return rules

    async def _robots_txt(self, target: Target) -> tuple[int, bytes, float | None]:
        """Status, text and Retry-After of a robots.txt. Raises Failure."""
        body = bytearray()
        with within(self.manners.timeout_s):
            async with (
                asyncio.timeout(self.manners.timeout_s) as deadline,
                self._followed(target, "text/plain", deadline) as response,
            ):
                if 200 <= response.status < 300:
                    async for chunk in response.content.iter_any():
                        body += chunk
                        if len(body) > ROBOTS_BYTES:
                            break
                text = as_far_as_possible(bytes(body), packed_in(response), ROBOTS_BYTES)
                return response.status, text, seconds(response.headers.get("Retry-After"))

    @asynccontextmanager
    async def _followed(
        self, target: Target, accept: str, deadline: asyncio.Timeout, check: bool = False
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The first response that is no redirect. Every hop's host is checked again, and its robots.txt if `check`."""
        for hop in range(self.manners.max_redirects + 1):
            with redirected(hop):
                if hop and check:
                    await self._allowed(target)
                await self._look_up(target, deadline)
                async with self.wire.get(target, accept, self.manners.header_timeout_s) as response:
                    location = response.headers.get("Location")
                    if check and response.status < 400:
                        self._refuse_reserved(response)
                    if response.status not in REDIRECTS or not location:
                        yield response
                        return
            with redirected(hop + 1):
                target = follow(target, location)
        raise Failure("redirect-limit", f"more than {self.manners.max_redirects} redirects")

    async def _look_up(self, target: Target, deadline: asyncio.Timeout) -> None:
        """Look the host up before its headers are waited for. The deadline stands still until it is this one's turn."""
        if self.wire.names.known(target.host):
            return
        loop, end = asyncio.get_running_loop(), deadline.when()
        if end is not None:
            left = end - loop.time()
            deadline.reschedule(None)
            await self.wire.names.begun(target.host)
            deadline.reschedule(loop.time() + left)
        try:
            async with asyncio.timeout(self.manners.header_timeout_s):
                await self.wire.names.look_up(target.host)
        except TimeoutError as error:
            raise Failure("dns", NO_ANSWER) from error

    def _refuse_reserved(self, response: aiohttp.ClientResponse) -> None:
        """Raises Failure opt-out if the headers of an answer, a redirect's too, reserve the picture."""
        tags = response.headers.getall("X-Robots-Tag", [])
        if word := opt_out(tags, self.manners.user_agent, self.manners.directives):
            raise Failure("opt-out", f"X-Robots-Tag: {word}")
        if self.manners.tdm and reserved(response.headers.getall("TDM-Reservation", [])):
            raise Failure("opt-out", "TDM-Reservation: 1")

    async def _body(self, response: aiohttp.ClientResponse) -> Fetched:
        most = self.manners.max_bytes
        if (response.content_length or 0) > most:
            raise Failure("body-limit", f"{response.content_length} bytes are announced, {most} allowed")
        body, kind, counted = bytearray(), None, 0
        try:
            async for chunk in plain_chunks(response, most):
                body += chunk
                if len(body) > most:
                    raise Failure("body-limit", f"more than {most} bytes")
                if kind is None and len(body) >= HEAD:
                    kind = kind_of(bytes(body[:HEAD]), response)  # the rest of a web page need not be read
                self._held, counted = self._held + len(body) - counted, len(body)
                await self._wait_for_memory(counted)
        finally:
            self._held -= counted
        return Fetched(bytes(body), kind or kind_of(bytes(body[:HEAD]), response))

    async def _wait_for_memory(self, size: int) -> None:
        """Let a body larger than its fair share wait while all bodies together are too many. Its deadline runs on."""
        fair = self.manners.held_bytes // self.manners.connections
        while self._held > self.manners.held_bytes and size > fair:
            await asyncio.sleep(0.02)


@contextmanager
def within(deadline_s: float) -> Iterator[None]:
    """Turns the end of a deadline into a Failure."""
    try:
        yield
    except TimeoutError as error:
        raise Failure("timeout", f"not done within {deadline_s:g} s") from error


@contextmanager
def with_crawl_delay(pause_s: float) -> Iterator[None]:
    """Lets a Failure carry what the host's robots.txt asks for."""
    try:
        yield
    except Failure as failure:
        failure.crawl_delay_s = pause_s
        raise


@contextmanager
def redirected(hops: int) -> Iterator[None]:
    """Says of a Failure that it is that of a redirect's goal."""
    try:
        yield
    except Failure as failure:
        if hops and not failure.redirected:
            failure.redirected, failure.asked, failure.detail = True, True, f"redirected: {failure.detail}"
        raise


def kind_of(head: bytes, response: aiohttp.ClientResponse) -> str:
    """The picture's kind by its first bytes, whatever Content-Type says. Raises Failure not-an-image."""
    kind = sniff(head)
    if kind is None:
        said = response.headers.get("Content-Type", "nothing").partition(";")[0]
        raise Failure("not-an-image", f"it starts with {head[:12]!r}; Content-Type says {said[:60]}")
    return kind


async def plain_chunks(response: aiohttp.ClientResponse, most: int) -> AsyncIterator[bytes]:
    """The body in pieces, undone of what it is packed in (which may be bombs) at most 1 MiB at a time.

    Raises Failure body-limit if more than `most` bytes come, whatever they hold.
    """
    names, came = packed_in(response), 0
    unpacker = Unpacker(names, most)
    with explained("reading the body"):
        async for chunk in response.content.iter_any():
            came += len(chunk)
            if came > most:
                raise Failure("body-limit", f"more than {most} bytes")
            for piece in unpacker.feed(chunk):
                yield piece
                if names:
                    await asyncio.sleep(0)  # unpacking takes time that others may use
    for piece in unpacker.finish():
        yield piece
        await asyncio.sleep(0)


def packed_in(response: aiohttp.ClientResponse) -> list[str]:
    """How the body is packed, by its headers. Raises Failure not-an-image for too many layers."""
    return packings(response.headers.getall("Content-Encoding", []), response.headers.getall("Transfer-Encoding", []))
