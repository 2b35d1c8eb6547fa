"""One HTTP exchange: an aiohttp session that connects to checked addresses only, and every error as a Failure."""

from __future__ import annotations

import asyncio
import functools
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import aiohttp
import certifi
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from stages.download.address import Target
from stages.download.failure import Failure
from stages.download.heads import MOST, MOST_HEADERS, LenientHandler
from stages.download.names import Doors, Names

READ_AHEAD = 1 << 17  # bytes of a body that aiohttp takes in before we ask for more
KEPT = "kept"


@functools.cache
def tls() -> ssl.SSLContext:
    """Verifies against the system's and certifi's authorities; made once, since it takes 20 ms."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


class Wire:
    """Sends requests. Belongs to the event loop it is made on.

    Connections are kept for the next picture of their host. A server may close one just as it is taken again, which
    says nothing about the picture or the host (RFC 9112, 9.3.1 and 9.5): the same request is then sent once more, over
    a connection of its own.
    """

    def __init__(self, doors: Doors, user_agent: str) -> None:
        self.doors = doors
        self.names = names = Names(doors)
        headers = {"User-Agent": user_agent, "Accept-Encoding": "identity"}  # pictures are compressed already
        self.keeping = _session(names, headers, kept=True)
        self.fresh = _session(names, headers, kept=False)

    @asynccontextmanager
    async def get(self, target: Target, accept: str, header_s: float) -> AsyncIterator[aiohttp.ClientResponse]:
        """The response to one GET, headers read and body not yet. Redirects are not followed.

        Raises Failure for all that goes wrong until the context ends. Leaving it early closes the connection.
        """
        self.doors.admit_literal(target)
        with explained("waiting for the headers"):
            try:
                async with asyncio.timeout(header_s):
                    response = await self._answer(target, accept)
            except TimeoutError as error:
                raise Failure("timeout", f"no headers within {header_s:g} s") from error
        try:
            with explained("reading the body"):
                yield response
        finally:
            response.close() if not response.content.at_eof() else response.release()

    async def _answer(self, target: Target, accept: str) -> aiohttp.ClientResponse:
        try:
            return await _send(self.keeping, target, accept)
        except _Broken as broken:
            if not broken.kept:
                raise broken.error from broken
        try:
            return await _send(self.fresh, target, accept)
        except _Broken as broken:
            raise broken.error from broken

    async def close(self) -> None:
        await self.keeping.close()
        await self.fresh.close()


class _Broken(Exception):  # noqa: N818  becomes a Failure or a second request
    """A connection ended before the answer began. No error of aiohttp's family, so that it does not ask again."""

    def __init__(self, error: aiohttp.ClientError) -> None:
        super().__init__(str(error))
        self.error = error
        self.kept = False  # whether the connection had served another request before


async def _send(session: aiohttp.ClientSession, target: Target, accept: str) -> aiohttp.ClientResponse:
    """Raises _Broken, or what aiohttp, sockets and TLS raise."""
    noted: set[str] = set()
    try:
        return await session.get(
            URL(target.url, encoded=True),
            headers={"Accept": accept, "Host": target.authority},
            ssl=tls(),
            allow_redirects=False,
            trace_request_ctx=noted,
        )
    except _Broken as broken:
        broken.kept = KEPT in noted
        raise


def _session(names: Names, headers: dict[str, str], kept: bool) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(
        resolver=names,
        use_dns_cache=False,  # ours remembers, and checks what it remembers
        socket_factory=names.doors.open_socket,
        limit=0,  # the engine counts
        force_close=not kept,
        keepalive_timeout=5 if kept else None,
    )
    reader = functools.partial(LenientHandler, loop=asyncio.get_running_loop())
    connector._factory = cast("functools.partial[ResponseHandler]", reader)  # there is no public way
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,  # a bomb is unpacked bit by bit, see fetch.py
        read_bufsize=READ_AHEAD,
        max_line_size=MOST,
        max_field_size=MOST,
        max_headers=MOST_HEADERS,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
        headers=headers,
        middlewares=(_once,),
        trace_configs=[_noting_kept_connections()],
    )


async def _once(
    request: aiohttp.ClientRequest, handler: Callable[[aiohttp.ClientRequest], Awaitable[aiohttp.ClientResponse]]
) -> aiohttp.ClientResponse:
    """Left alone, aiohttp asks a second time over any connection, which may be dead like the first, or none."""
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:  # there was no connection at all
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError, aiohttp.ClientResponseError) as error:
        raise _Broken(error) from error  # the last one: over a kept connection, it may be what came behind a body


def _noting_kept_connections() -> aiohttp.TraceConfig:
    async def note(session: aiohttp.ClientSession, context: Any, _: object) -> None:
        context.trace_request_ctx.add(KEPT)

    config = aiohttp.TraceConfig()
    config.on_connection_reuseconn.append(note)
    return config


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
        if broken := rule_broken(error):
            return Failure("bad-answer", broken)
        return Failure("connect", f"the connection ended or broke while {self.doing}")


def rule_broken(error: BaseException) -> str | None:
    """What is wrong with an answer that is no HTTP, by the parser's words without the bytes that it had at hand."""
    if isinstance(error, aiohttp.ClientPayloadError):
        cause = error.__cause__
        if type(cause) is not HttpProcessingError:  # its subclasses say that the body ended early
            return None
        said = cause.message
    elif isinstance(error, aiohttp.ClientResponseError):
        said = error.message
    else:
        return None
    lines = [line.strip() for line in said.split("\n\n")[0].splitlines()]
    return " ".join(line for line in lines if line).partition(" when reading")[0].partition(": b'")[0].rstrip(":")
