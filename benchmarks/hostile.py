"""What bad servers and pictures cost `download` in outcome, time and memory: the table of docs/lab/fetching.md.

    python -m benchmarks.hostile            # about a minute. Prints Markdown

Each case is one row of its own, fetched by a fresh engine from the hostile server of the tests, with its two deadlines
at 2 s and at most 4 MiB a body. Time: from the first byte asked for to the row's outcome. Memory: by how much this
process and its decoder grew at most (resident), looked at every 2 ms. An ordinary picture is the first line.
"""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import psutil
from PIL import Image

from stages.download.decoders import Decoding
from stages.download.engine import Engine
from stages.download.fetch import Manners
from stages.download.host import Courtesy
from stages.download.names import Doors
from stages.download.persistence import Persistence
from stages.download.pictures import Limits
from stages.download.spool import key_of
from tests.stages.download.bombs import BOMBS
from tests.stages.download.hostile import (
    Answer,
    HostileServer,
    drip,
    encoded,
    endless,
    in_turn,
    jpeg,
    raw,
    reply,
)

OK = b"HTTP/1.1 200 OK\r\n"
JPEG = jpeg()
LOOP = "/loop"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
LIMITS = Limits(max_pixels=10_000_000, max_side=256, quality=92)


@dataclass
class Growth:
    """The most memory beyond what there was, of this process and its children."""

    before: dict[int, int] = field(default_factory=dict)
    bytes: int = 0

    def look(self) -> None:
        mine = psutil.Process()
        grown = 0
        for process in (mine, *mine.children()):
            try:
                now = process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
            grown += max(0, now - self.before.setdefault(process.pid, now))
        self.bytes = max(self.bytes, grown)


@contextmanager
def growth() -> Iterator[Growth]:
    found, over = Growth(), threading.Event()
    found.look()

    def watch() -> None:
        while not over.wait(0.002):
            found.look()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()


def servers(server: HostileServer) -> dict[str, Answer]:
    """Each misbehaviour by the words of the table."""
    closing = server.closing
    bomb = gzip.compress(JPEG[:100] + bytes(200 << 20))
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    return {
        "an ordinary picture": reply(JPEG),
        "no answer": drip(b"", b"", 0.1, closing),
        "headers drop by drop": drip(OK, b"X-A: b\r\n", 0.05, closing),
        "body drop by drop": drip(OK + b"Content-Length: 100000\r\n\r\n" + JPEG[:100], b"x", 0.05, closing),
        "endless headers": endless(OK, b"X-A: " + b"b" * 1000 + b"\r\n"),
        "endless body": endless(OK + b"\r\n" + JPEG[:100], b"x" * 65536),
        "endless body, announced": endless(OK + b"Content-Length: 999999999\r\n\r\n" + JPEG[:100], b"x" * 65536),
        "endless chunks": endless(CHUNKED + b"64\r\n" + JPEG[:100] + b"\r\n", chunk),
        "a gzip bomb (200 MB in 0.2)": reply(bomb, Content_Encoding="gzip"),
        "a shorter body than announced": raw(OK + b"Content-Length: 5000\r\n\r\n" + JPEG[:500]),
        "reset within a chunk": raw(CHUNKED + b"1000\r\n" + JPEG[:500]),
        "no HTTP": raw(b"\0\1\2\3 nonsense\r\n\r\n"),
        "a redirect to itself": reply(status=302, Location=LOOP),
        "a redirect to 127.0.0.1": reply(status=302, Location=server.url("/secret")),
        "a redirect to [::1]": reply(status=302, Location=server.url("/secret", "[::1]")),
        "a redirect to [::ffff:127.0.0.1]": reply(status=302, Location=server.url("/secret", "[::ffff:127.0.0.1]")),
        "a redirect to 2130706433": reply(status=302, Location=server.url("/secret", "2130706433")),
        "a redirect to 0177.0.0.1": reply(status=302, Location=server.url("/secret", "0177.0.0.1")),
        "a redirect to 169.254.169.254": reply(status=302, Location="http://169.254.169.254/latest/meta-data/"),
        "a redirect to user:pass@": reply(status=302, Location="http://user:pass@mirror.invalid/x"),
        "HTML as image/jpeg": reply(b"<!doctype html><html>" * 99, Content_Type="image/jpeg"),
        "X-Robots-Tag: noai": reply(JPEG, X_Robots_Tag="noai"),
        "404": reply(status=404),
        "429, Retry-After: 1, then the picture": in_turn(reply(status=429, Retry_After="1"), reply(JPEG)),
        "429, Retry-After: 3600": reply(status=429, Retry_After="3600"),
        "503, then the picture": in_turn(reply(status=503), reply(JPEG)),
    }


def pictures() -> dict[str, bytes]:
    """Hostile files by the words of the table."""
    plain = Image.open(BytesIO(JPEG))
    exif = Image.Exif()
    exif[0x0112] = 6
    return BOMBS | {
        "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "a JPEG cut in half": JPEG[: len(JPEG) // 2],
        "a JPEG turned by EXIF": encoded(plain, "JPEG", exif=exif),
        "CMYK": encoded(plain.convert("CMYK"), "JPEG"),
        "a floating-point TIFF": encoded(plain.convert("F"), "TIFF"),
    }


def measured(server: HostileServer, path: str) -> tuple[dict[str, Any], float, float]:
    """What became of a row, seconds, and megabytes."""
    manners = Manners(
        doors=Doors(mapped={"mirror.invalid": ("127.0.0.1", server.port)}), timeout_s=2.0, header_timeout_s=2.0,
        max_redirects=5, max_bytes=4 << 20, user_agent="pairloom/0 (benchmark)", robots=False,
    )  # fmt: skip
    persistence = Persistence(retries=1, backoff_s=0.01, outage_after=None)
    engine = Engine(manners, Courtesy(pause_s=0.0), persistence, Decoding(LIMITS, processes=1))
    engine.run([("http://mirror.invalid/warm", None)], None).close()  # the decoder is there
    url = f"http://mirror.invalid{path}"
    with growth() as grown:
        start = time.perf_counter()
        with engine.run([(url, None)], None) as spool:
            seconds = time.perf_counter() - start
            found, _ = spool.get(key_of(url, None))
    engine.close()
    return found, seconds, grown.bytes / 2**20


def main() -> None:
    server = HostileServer()
    server.answers["/warm"] = reply(JPEG)
    cases = servers(server) | {title: reply(body) for title, body in pictures().items()}
    print("| what comes | outcome | attempts | seconds | MB |\n|---|---|---|---|---|")
    for number, (title, answer) in enumerate(cases.items()):
        path = LOOP if title == "a redirect to itself" else f"/{number}"
        server.answers |= {path: answer}
        found, seconds, megabytes = measured(server, path)
        outcome = found.get("reason") or f"stored, {found['width']} × {found['height']}"
        print(f"| {title} | {outcome} | {found['attempts']} | {seconds:.2f} | {megabytes:.0f} |", flush=True)
    server.close()


if __name__ == "__main__":
    main()
