"""Servers on loopback, a few pictures to serve, and lists of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
from PIL import Image


class Quiet(SimpleHTTPRequestHandler):
    def __init__(self, *arguments: object, asked: list[str], **options: object) -> None:
        self.asked = asked
        super().__init__(*arguments, **options)  # type: ignore[arg-type]  # handed through

    def log_message(self, format: str, *arguments: object) -> None:
        self.asked.append(self.path)


@contextmanager
def pictures(folder: Path, count: int, asked: list[str] | None = None) -> Iterator[str]:
    """host:port of a server with `0.jpg`, `1.jpg` …, each other noise. `asked` gets the path of each request."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        noise = np.random.default_rng(number).normal(128, 30 + number, (280, 300 + 7 * number)).clip(0, 255)
        Image.fromarray(noise.astype(np.uint8)).convert("RGB").save(folder / f"{number}.jpg")
    with served(folder, asked) as host:
        yield host


@contextmanager
def served(folder: Path, asked: list[str] | None = None) -> Iterator[str]:
    """host:port of a server on loopback with the files of a folder."""
    handler = partial(Quiet, directory=str(folder), asked=[] if asked is None else asked)
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), handler)
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
