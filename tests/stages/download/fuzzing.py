"""Odd URLs and headers, drawn from a seed: what servers and lists hold by accident or on purpose."""

from __future__ import annotations

import os
import random

COUNT = int(os.environ.get("PAIRLOOM_FUZZ", "0"))  # cases of each kind instead of a test's own number

PIECES = (
    "http://", "https://", "//", "/", "\\", "\\\\", "http:", "file:", "a.example", "mirror.invalid", "127.0.0.1",
    "[::1]", "[", "]", "@", ":", ":0", ":80", ":99999", "%", "%2e", "%2E%2E", "%00", "%zz", "..", ".", "?", "#",
    "&", "=", "xn--", "xn--a", "\0", "\t", "\n", " ", "é", "日本", "\udce9", "\ud800", "。", "٣", "ß", "\u202e",
    "x.jpg", "a" * 64, "*", "|", "<", '"', "{", ";", ",", "'", "^", "`", "+", "~",
)  # fmt: skip
HEADERS = (
    b"Retry-After", b"Location", b"Content-Type", b"Content-Encoding", b"X-Robots-Tag", b"TDM-Reservation",
    b"Set-Cookie", b"Content-Length", b"Transfer-Encoding", b"Connection", b"Keep-Alive", b"Date", b"Link",
    b"Upgrade",
)  # fmt: skip
VALUES = (
    b"Mon, 01 Jan 99999999999999999999 00:00:00 GMT", b"Mon, 01 Jan 0000 00:00:00 GMT",
    b"Mon, 31 Dec 9999 23:59:59 -2359", b"Fri, 31 Dec 1", b"1e400", b"-1", b"99999999999999999999", b"0", b"1",
    b"nan", b"inf", b"\xe9", b"t\xe9xt", b"\xff\xfe", b"\xc3\xa9", b"http://www.example.com\\a\\b.jpg", b"//[",
    b"http://[::1", b"\\\\", b"..", b"gzip", b"br", b"deflate, gzip", b"chunked", b"identity", b"noai",
    b"unavailable_after:", b":", b",", b";", b"=", b'"', b"\x01", b"\x7f", b"\t", b" ", b"", b"a" * 9000,
    b"image/jpeg", b"text/html; charset=\xe9", b"close", b"keep-alive", b"=?utf-8?q?=e9?=", b"%", b"%zz", b"xn--",
    b"http://mirror.invalid:0/", b"http://xn--/", b"/picture", b"utf-8",
)  # fmt: skip
STATUSES = (200, 200, 200, 206, 300, 301, 302, 304, 307, 308, 404, 408, 425, 429, 451, 500, 503, 600, 999)


def odd_url(chance: random.Random) -> str:
    """A URL or something like it, or a header's value as aiohttp reads it: bytes that are no UTF-8 are surrogates."""
    pieces = "".join(chance.choices(PIECES, k=chance.randint(1, 8)))
    return pieces if chance.random() < 0.3 else f"http://a.example{chance.choice(('/', ''))}{pieces}"


def odd_head(chance: random.Random) -> bytes:
    """Status line and headers of an answer, without the empty line behind them. Never a valid redirect elsewhere."""
    lines = [f"HTTP/1.1 {chance.choice(STATUSES)} Whatever".encode()]
    for _ in range(chance.randint(0, 4)):
        value = b"".join(chance.choices(VALUES, k=chance.randint(1, 3)))
        lines.append(chance.choice(HEADERS) + b": " + value)
    return b"\r\n".join(lines)
