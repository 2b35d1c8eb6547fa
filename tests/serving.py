"""Servers on loopback, a few pictures to serve, and lists of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from PIL import Image


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        pass


@contextmanager
def pictures(folder: Path, count: int) -> Iterator[str]:
    """host:port of a server with `0.jpg`, `1.jpg` …, all of them different."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.effect_noise((300 + 7 * number, 280), 30 + number).convert("RGB").save(folder / f"{number}.jpg")
    with served(folder) as host:
        yield host


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """host:port of a server on loopback with the files of a folder."""
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{httpd.server_port}"
    finally:
        httpd.shutdown()
        httpd.server_close()


def write_list(file: Path, host: str, numbers: range) -> Path:
    """A csv of these pictures, each with a caption of its own."""
    lines = [f"http://{host}/{number}.jpg,a small {chr(97 + number)} thing of {number}" for number in numbers]
    file.write_text("url,caption\n" + "\n".join(lines) + "\n", encoding="utf-8")
    return file
