"""One HTTP exchange: an aiohttp session that connects to checked addresses only, and every error as a Failure."""

from __future__ import annotations

import asyncio
import functools
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
import certifi
from yarl import URL

from stages.download.address import Target
from stages.download.failure import Failure
from stages.download.names import Doors, Names

READ_AHEAD = 1 << 17  # bytes of a body that aiohttp takes in before we ask for more


@functools.cache
def tls() -> ssl.SSLContext:
    """Verifies against the system's and certifi's authorities; made once, since it takes 20 ms."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


@dataclass(frozen=True)
class Times:
    """The deadlines of one attempt: until the headers of each hop are there, and for everything together."""

    header_s: float
    total_s: float


class Wire:
    """Sends requests; belongs to the event loop it is made on."""

    def __init__(self, doors: Doors, user_agent: str) -> None:
        self.doors = doors
        connector = aiohttp.TCPConnector(
            resolver=Names(doors),
            use_dns_cache=False,  # ours remembers, and checks what it remembers
            socket_factory=doors.open_socket,
            limit=0,  # the engine counts
            keepalive_timeout=5,
        )
        self.session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,  # a bomb is unpacked bit by bit, see fetch.py
            read_bufsize=READ_AHEAD,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            headers={"User-Agent": user_agent, "Accept-Encoding": "identity"},  # pictures are compressed already
        )

    @asynccontextmanager
    async def get(self, target: Target, accept: str, header_s: float) -> AsyncIterator[aiohttp.ClientResponse]:
        """The response to one GET, headers read and body not yet; redirects are not followed.

        Raises Failure for all that goes wrong until the context ends. Leaving it early closes the connection.
        """
        self.doors.admit_literal(target)
        with explained("waiting for the headers"):
            try:
                async with asyncio.timeout(header_s):
                    response = await self.session.get(
                        URL(target.url, encoded=True),
                        headers={"Accept": accept, "Host": target.authority},
                        ssl=tls(),
                        allow_redirects=False,
                    )
            except TimeoutError as error:
                raise Failure("timeout", f"no headers within {header_s:g} s") from error
        try:
            with explained("reading the body"):
                yield response
        finally:
            response.close() if not response.content.at_eof() else response.release()

    async def close(self) -> None:
        await self.session.close()


class explained:  # noqa: N801  # used as `with explained(...)`
    """Turns what aiohttp, sockets and TLS raise into a Failure without ports or addresses, which change every time."""

    def __init__(self, doing: str) -> None:
        self.doing = doing

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, aiohttp.ClientError | ssl.SSLError | ConnectionError):
            raise self._failure(error) from error

    def _failure(self, error: BaseException) -> Failure:
        inner = getattr(error, "certificate_error", None) or getattr(error, "os_error", None) or error
        if isinstance(inner, ssl.SSLEOFError):
            return Failure("connect", f"the connection ended while {self.doing}")
        if isinstance(inner, ssl.SSLError) or isinstance(error, aiohttp.ClientSSLError):
            said = getattr(inner, "verify_message", "") or getattr(inner, "reason", None) or "handshake failed"
            return Failure("tls", str(said))
        if isinstance(error, aiohttp.InvalidURL):
            return Failure("dns", "not a possible host name")
        if isinstance(inner, OSError) and inner.errno:
            return Failure("connect", f"{os.strerror(inner.errno)} while {self.doing}")
        if isinstance(error, aiohttp.ClientConnectionError | aiohttp.ClientPayloadError):
            return Failure("connect", f"the connection ended or broke while {self.doing}")
        return Failure("connect", f"not an HTTP answer ({type(error).__name__}) while {self.doing}")
