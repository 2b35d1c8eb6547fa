"""A raw TCP server whose answers break every rule on purpose, and small pictures to serve."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from io import BytesIO

import numpy as np
from PIL import Image

Answer = Callable[[socket.socket, str], None]  # (connection, path of the request)


class HostileServer:
    """Answers each connection by `answers[path]`, an unknown path by 404. Keeps the requests' paths and heads."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {"/robots.txt": reply(status=404)}
        self.requests: list[str] = []
        self.heads: list[bytes] = []
        self.closing = threading.Event()
        self.tls: ssl.SSLContext | None = None
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._threads: list[threading.Thread] = []
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # closed
                return
            thread = threading.Thread(target=self._serve, args=[connection], daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            self._speak(connection if self.tls is None else self.tls.wrap_socket(connection, server_side=True))

    def _speak(self, connection: socket.socket) -> None:
        with connection:
            head = b""
            while b"\r\n\r\n" not in head:
                chunk = connection.recv(65536)
                if not chunk:
                    return
                head += chunk
            path = head.split(b" ")[1].decode()
            self.heads.append(head)
            self.requests.append(path)
            self.answers.get(path, MISSING)(connection, path)

    def close(self) -> None:
        self.closing.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in (self._acceptor, *self._threads):
            thread.join(timeout=10)


def reply(body: bytes = b"", status: int = 200, **headers: str) -> Answer:
    """An ordinary answer. Header names with _ for -."""

    def answer(connection: socket.socket, path: str) -> None:
        given = {"Content-Length": str(len(body)), **{name.replace("_", "-"): value for name, value in headers.items()}}
        lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
        connection.sendall(f"HTTP/1.1 {status} Whatever\r\n{lines}\r\n".encode() + body)

    return answer


MISSING = reply(status=404)


def kept(answer: Answer) -> Answer:
    """The answer over a connection that seems to be kept. It ends when the next request has come over it."""

    def answer_once(connection: socket.socket, path: str) -> None:
        answer(connection, path)
        connection.recv(65536)

    return answer_once


def raw(data: bytes) -> Answer:
    """Exactly these bytes, then the end of the connection."""
    return lambda connection, path: connection.sendall(data)


def drip(first: bytes, piece: bytes, every_s: float, closing: threading.Event) -> Answer:
    """`first`, then `piece` again and again, until the client gives up."""

    def answer(connection: socket.socket, path: str) -> None:
        connection.sendall(first)
        while not closing.wait(every_s):
            connection.sendall(piece)

    return answer


def hang(closing: threading.Event) -> Answer:
    """Nothing, until the test is over."""

    def answer(connection: socket.socket, path: str) -> None:
        closing.wait(30)

    return answer


def endless(first: bytes, piece: bytes) -> Answer:
    def answer(connection: socket.socket, path: str) -> None:
        connection.sendall(first)
        while True:
            connection.sendall(piece)

    return answer


def in_turn(*answers: Answer) -> Answer:
    """The first answer for the first request, and so on. The last one for all further ones."""
    waiting: Iterator[Answer] = iter(answers)
    last = answers[-1]
    return lambda connection, path: next(waiting, last)(connection, path)


def jpeg(width: int = 64, height: int = 48, seed: int = 0) -> bytes:
    """A JPEG with smooth, distinct content."""
    return encoded(Image.fromarray(scene(width, height, seed)), "JPEG", quality=90)


def scene(width: int, height: int, seed: int = 0) -> np.ndarray:
    """Smooth colours without any symmetry."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
