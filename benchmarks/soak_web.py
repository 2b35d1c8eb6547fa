"""The web of benchmarks.soak: hosts of every hostile kind on loopback addresses of their own.

`python -m benchmarks.soak_web PORT COUNTS` serves until its standard input ends, and then writes to the file
COUNTS how often each path of each host was asked for. A host's number says of which kind it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.web import pool
from tests.stages.download.hostile import encoded, scene
from tests.stages.download.test_heads import BROKEN, MEANT

Speak = Callable[["Visit"], Awaitable[bytes]]
OPEN = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"  # a robots.txt that is not there
PICTURES = pool(small=True)
A_SECOND = 10  # requests that a limited host takes


def reply(body: bytes = b"", status: int = 200, **headers: str) -> bytes:
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} x\r\nContent-Length: {len(body)}\r\n{lines}\r\n".encode() + body


def picture(row: int) -> bytes:
    return PICTURES[row % len(PICTURES)]


@dataclass
class Visit:
    """One request for a picture."""

    row: int
    path: str
    times: int  # that this path was asked for so far
    host: Host
    writer: asyncio.StreamWriter


@dataclass
class Host:
    """What a host remembers."""

    taken: deque[float] = field(default_factory=deque)  # times of the requests that it took

    def free(self) -> bool:
        now = time.monotonic()
        while self.taken and self.taken[0] < now - 1:
            self.taken.popleft()
        if len(self.taken) < A_SECOND:
            self.taken.append(now)
            return True
        return False


def always(answer: Callable[[int], bytes]) -> Speak:
    async def speak(visit: Visit) -> bytes:
        return answer(visit.row)

    return speak


def limited(refusal: bytes) -> Speak:
    async def speak(visit: Visit) -> bytes:
        return reply(picture(visit.row)) if visit.host.free() else refusal

    return speak


async def slow(visit: Visit) -> bytes:
    await asyncio.sleep(0.4)
    return reply(picture(visit.row))


async def flaky(visit: Visit) -> bytes:
    return reply(status=503) if visit.times == 1 else reply(picture(visit.row))


async def redirecting(visit: Visit) -> bytes:
    return reply(picture(visit.row)) if "moved" in visit.path else reply(status=302, Location=f"{visit.path}?moved")


async def hanging(visit: Visit) -> bytes:
    await asyncio.sleep(60)
    return b""


async def dripping(visit: Visit) -> bytes:
    visit.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + picture(0)[:100])
    for _ in range(600):
        await asyncio.sleep(0.1)
        visit.writer.write(b"x")
        await visit.writer.drain()
    return b""


def broken_pictures() -> list[bytes]:
    whole = encoded_scene("JPEG")
    return [
        whole[: len(whole) // 2],
        encoded_scene("PNG")[:300],
        b"<!doctype html><html>" * 9,
        b"<svg/>",
        b"",
        b"GIF89a",
    ]


def encoded_scene(kind: str) -> bytes:
    from PIL import Image

    return encoded(Image.fromarray(scene(80, 60)), kind)


def rotated(answers: list[bytes]) -> Speak:
    return always(lambda row: answers[row % len(answers)])


@dataclass(frozen=True)
class Kind:
    """One kind of hosts: how they answer, how their rows may end (None: stored), how many of 100 hosts they are."""

    speak: Speak | None  # None: nobody is there
    ends: frozenset[str | None]
    share: int = 2
    robots: bytes = OPEN


def kinds() -> dict[str, Kind]:
    """Every kind; where a row may be stored, every row is, so that no two runs differ in what they store."""
    ok, good = frozenset([None]), always(lambda row: reply(picture(row)))
    refused, gone = frozenset(["opt-out"]), always(lambda row: reply(status=404))
    silent = frozenset(["timeout", "connect", "dns", "host-down"])
    # A first request may time out on a busy machine, and a row whose host is given up ends as it failed last.
    given_up = frozenset(["host-down", "host-slow", "timeout"])
    robots = "User-agent: *\n{}: {}\n".format
    return {
        "good": Kind(good, ok, 42),
        "slow (0.4 s)": Kind(slow, ok, 4),
        "fails once": Kind(flaky, ok, 4),
        "redirects": Kind(redirecting, ok),
        "429 above 10 a second": Kind(limited(reply(status=429)), ok),
        "429 with Retry-After: 1": Kind(limited(reply(status=429, Retry_After="1")), ok),
        "503 with Retry-After: 1": Kind(limited(reply(status=503, Retry_After="1")), ok),
        "Crawl-delay: 0.2": Kind(good, ok, robots=reply(robots("Crawl-delay", 0.2).encode())),
        "broken heads that are meant": Kind(rotated([*MEANT.values()]), ok, 4),
        "broken heads": Kind(rotated([*BROKEN.values()]), given_up | {"bad-answer"}),
        "broken pictures": Kind(rotated([reply(body) for body in broken_pictures()]),
                                frozenset(["damaged-image", "not-an-image"]), 4),
        "404": Kind(gone, frozenset(["not-found"]), 4),
        "503": Kind(always(lambda row: reply(status=503)), given_up | {"http-5xx"}),
        "429": Kind(always(lambda row: reply(status=429)), given_up | {"rate-limited"}),
        "Retry-After: 3600": Kind(always(lambda row: reply(status=429, Retry_After="3600")),
                                  given_up | {"rate-limited"}),
        "Retry-After: 4 to every row": Kind(always(lambda row: reply(status=503, Retry_After="4")),
                                            given_up | {"http-5xx"}),
        "Crawl-delay: 1000000000": Kind(gone, given_up | {"not-found"},
                                        robots=reply(robots("Crawl-delay", 10**9).encode())),
        "robots.txt: Disallow": Kind(good, refused, robots=reply(robots("Disallow", "/").encode())),
        "X-Robots-Tag: noai": Kind(always(lambda row: reply(picture(row), X_Robots_Tag="noai")), refused),
        "redirects to 10.0.0.1": Kind(always(lambda row: reply(status=302, Location="http://10.0.0.1/")),
                                      frozenset(["address-refused"])),
        "never answers": Kind(hanging, silent),
        "a byte now and then": Kind(dripping, silent),
        "closes at once": Kind(always(lambda row: b""), silent),
        "nobody listens": Kind(None, silent),
        "no such name": Kind(None, silent),
    }  # fmt: skip


KINDS = kinds()
BY_SHARE = [name for name, kind in KINDS.items() for _ in range(kind.share)]


def kind_of(host: int) -> str:
    return BY_SHARE[host * 37 % len(BY_SHARE)]  # 37: so that few hosts are of many kinds


def address(host: int) -> str:
    return f"127.2.{host // 250}.{host % 250 + 1}"


def url(host: int, row: int, port: int) -> str:
    """The URL of a row of the list at this host."""
    kind = kind_of(host)
    name = f"nobody-{host}.invalid" if kind == "no such name" else address(host)
    return f"http://{name}:{port + (kind == 'nobody listens')}/{row}.jpg"


class Web:
    """The server."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()  # HOST/PATH
        self.hosts: dict[int, Host] = {}

    async def speak(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        *_, high, low = map(int, writer.get_extra_info("sockname")[0].split("."))
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while answer := await self.answer(high * 250 + low - 1, reader, writer):
                writer.write(answer)
                await writer.drain()
                if not answer.startswith(b"HTTP/1.1 ") or b"Content-Length: " not in answer:
                    break
        writer.close()

    async def answer(self, host: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        head = await reader.readuntil(b"\r\n\r\n")
        path = head.split(b" ", 2)[1].decode()
        kind = KINDS[kind_of(host)]
        self.asked[f"{host}{path}"] += 1
        if path == "/robots.txt":
            return kind.robots
        assert kind.speak is not None
        row = int(path[1:].partition(".")[0])
        visit = Visit(row, path, self.asked[f"{host}{path}"], self.hosts.setdefault(host, Host()), writer)
        return await kind.speak(visit)


async def serve(port: int, counts: Path) -> None:
    web = Web()
    server = await asyncio.start_server(web.speak, "0.0.0.0", port, backlog=4096)
    os.write(1, b"ready\n")
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    server.close()
    counts.write_text(json.dumps(web.asked), encoding="utf-8")
    os._exit(0)  # whatever hangs


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), Path(sys.argv[2])))
