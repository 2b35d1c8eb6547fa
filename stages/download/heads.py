"""Reads answers whose head breaks the rules of HTTP although it is clear what the server means, as browsers do.

aiohttp's parser refuses them, which is right for a proxy: a head that two programs read differently lets an attacker
smuggle a second answer past one of them. We ask for one picture over a connection that is closed after such a head.
"""

from __future__ import annotations

import re
from typing import Any

from aiohttp import ClientPayloadError
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError

MOST = 1 << 16  # bytes of a head, and of one of its lines
MOST_HEADERS = 1000
END = re.compile(rb"\r?\n\r?\n")
BEGINNINGS = (b"http/", b"icy ")
STATUS = re.compile(rb"(?:HTTP/(\d+)(?:\.(\d+))?|ICY)[ \t]+(\d{3})(?![^ \t])[ \t]*([^\r\n]*)", re.IGNORECASE)
NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
PLAIN = re.compile(
    rb"HTTP/1\.[01] \d{3}(?: [^\r\n\0]*)?\r\n(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]++:[ \t]*+[^\r\n\0]*+\r\n)*+\r\n"
)
INFORMATIONAL = re.compile(rb"HTTP/1\.[01] 1(?!01)")


def repaired(head: bytes) -> bytes:
    """The head as HTTP/1 has it, or as it is if nothing is wrong or nobody knows what it means.

    head: from the status line to the empty line. Mended: HTTP/2 and ICY as versions, lines without a colon, names that
    are none, NUL and lone CR, equal Content-Lengths, one that is empty or comes with chunks, the encoding `identity`.
    A mended head ends its connection.
    """
    if _is_plain(head):
        return head
    lines = re.split(rb"\r?\n", head.strip(b"\r\n"))
    status = STATUS.fullmatch(lines[0])
    if status is None:
        return head
    version = b"1.0" if (status[1], status[2]) == (b"1", b"0") else b"1.1"
    first = b"HTTP/%s %s %s" % (version, status[3], status[4].replace(b"\0", b""))
    headers = _headers(lines[1:])
    mended = _with_one_length(headers)
    if [first.rstrip(), *(b": ".join(header) for header in mended)] == [line.rstrip() for line in lines]:
        return head
    kept = [header for header in mended if header[0].lower() != b"connection"]
    return b"\r\n".join([first, *(b": ".join(header) for header in kept), b"Connection: close"]) + b"\r\n\r\n"


def _is_plain(head: bytes) -> bool:
    """Whether nothing can be wrong with the head, which is so of nearly all and soon seen."""
    if not PLAIN.fullmatch(head):
        return False
    lower = head.lower()
    lengths, codings = lower.count(b"\ncontent-length:"), lower.count(b"\ntransfer-encoding:")
    if lengths + codings == 1:
        return _length(head) is not None if lengths else b"identity" not in lower
    return lengths + codings == 0


def _headers(lines: list[bytes]) -> list[tuple[bytes, bytes]]:
    """Name and value of each line that has both. A line that begins with a space goes on with the one before."""
    headers: list[tuple[bytes, bytes]] = []
    for line in lines:
        if line[:1] in (b" ", b"\t") and headers:
            headers[-1] = headers[-1][0], (headers[-1][1] + b" " + line.strip()).strip()
            continue
        name, colon, value = line.partition(b":")
        if colon and NAME.fullmatch(name.strip()):
            headers.append((name.strip(), value.replace(b"\0", b"").replace(b"\r", b"").strip()))
    return headers


def _with_one_length(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The headers with at most one statement of the body's length, if there is no contradiction."""
    coded = [header for header in headers if header[0].lower() == b"transfer-encoding"]
    lengths = [header for header in headers if header[0].lower() == b"content-length"]
    said = {part.strip() for _, value in lengths for part in value.split(b",")} - {b""}
    others = [header for header in headers if header not in coded and header not in lengths]
    real = [header for header in coded if header[1].lower() not in (b"identity", b"")]
    if len(coded) == len(real) and (len(lengths) < 2 and not (lengths and (real or lengths[0][1] not in said))):
        return headers
    if real:
        return [*others, *real]
    if len(said) > 1:
        return headers
    return [*others, *((b"Content-Length", length) for length in said)]


class LenientHandler(ResponseHandler):
    """aiohttp's reader of one connection, which gets each head whole and mended, and no byte behind the body."""

    _head: bytearray | None = None  # what has come of the head that is awaited; None: none is
    _left: int | None = None  # bytes that the body still lacks; None: its end is not known from its head

    def set_response_params(self, **settings: Any) -> None:
        self._head, self._left = bytearray(), None
        super().set_response_params(**settings)

    def data_received(self, data: bytes) -> None:
        if not data or self._parser is None:
            super().data_received(data)
        elif self._head is None:
            self._body(data)
        else:
            self._head += data
            self._whole_heads()

    def eof_received(self) -> None:
        self._flush()
        super().eof_received()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._flush()
        super().connection_lost(exc)

    def set_exception(self, exc: Any, *cause: Any) -> None:
        """aiohttp tells nobody who waits for the body that its parser has refused a chunk."""
        super().set_exception(exc, *cause)
        body = self._payload
        if isinstance(exc, HttpProcessingError) and body is not None and not body.is_eof() and not body.exception():
            error = ClientPayloadError(exc.message)
            error.__cause__ = exc
            body.set_exception(error)

    def _whole_heads(self) -> None:
        while self._head is not None:
            start = len(self._head) - len(self._head.lstrip(b"\r\n"))
            end = END.search(self._head, start)
            begins = bytes(self._head[start : start + 5]).lower()
            if end is None or not begins.startswith(BEGINNINGS):
                if len(self._head) > MOST or not any(name.startswith(begins[: len(name)]) for name in BEGINNINGS):
                    self._flush()
                return
            head, rest = repaired(bytes(self._head[start : end.end()])), bytes(self._head[end.end() :])
            if INFORMATIONAL.match(head):  # says nothing to us, the answer's own head follows
                self._head = bytearray(rest)
                continue
            self._head, self._left = None, _length(head)
            if self._left is not None and len(rest) <= self._left:
                self._left -= len(rest)
                super().data_received(head + rest)
                continue
            super().data_received(head)
            if rest:
                self._body(rest)

    def _body(self, data: bytes) -> None:
        if self._left is not None:
            data, rest = data[: self._left], data[self._left :]
            self._left -= len(data)
            if rest:
                self.force_close()
        if data:
            super().data_received(data)
        elif self.transport is not None:
            self.transport.close()

    def _flush(self) -> None:
        """Let the parser say what is wrong with something that does not become a head."""
        data, self._head = self._head, None
        if data:
            super().data_received(bytes(data))


def _length(head: bytes) -> int | None:
    found = re.search(rb"\r?\ncontent-length:[ \t]*(\d{1,18})[ \t]*\r?\n", head, re.IGNORECASE)
    return int(found[1]) if found else None
