"""The project's own web for benchmarks: pictures made by seed on many loopback hosts, some slow, silent or dead.

`python -m benchmarks.web PORT '{"drip": 10}'` serves until its standard input ends, plainly at PORT and with TLS at
PORT + 1, from as many processes as `Profile.processes` says. Every host 127.1.y.z is its own. A hash of its name says
what it is like. Path /N.jpg answers picture N of the pool after 5 to 80 ms, by N. Who is not on this machine is not
answered.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import socket
import ssl
import sys
import threading
import zlib
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image

POOL = 64
SIZES = ((640, 480), (800, 600), (1024, 768), (1280, 960), (1536, 1024))  # pixels
SMALL = ((64, 48), (80, 60), (96, 64))


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What the web is like. Shares in percent of its hosts."""

    drip: int = 0  # a byte a second
    hang: int = 0  # no answer
    dead: int = 0  # no server: the list names a port where nobody listens
    tls: int = 0
    small: bool = False
    latency_ms: int = 0  # beside the 5 to 80
    processes: int = 1
    certificate: str | None = None  # a PEM file with key, for the port of TLS

    def kind(self, address: str) -> str:
        """good, drip, hang or dead."""
        share = zlib.crc32(address.encode()) % 100
        for name in ("drip", "hang", "dead"):
            share -= getattr(self, name)
            if share < 0:
                return name
        return "good"

    def base(self, address: str, port: int) -> str:
        """The beginning of the URLs of a host."""
        if self.kind(address) == "dead":
            return f"http://{address}:{port + 2}"
        secure = zlib.crc32(address[::-1].encode()) % 100 < self.tls
        return f"https://{address}:{port + 1}" if secure else f"http://{address}:{port}"


def host(number: int) -> str:
    """A loopback address of its own for each host number below 60,000."""
    return f"127.1.{number // 250}.{number % 250 + 1}"


def pool(small: bool, pictures: int = POOL) -> list[bytes]:
    """Smooth colours under noise, so that files are as large as those of photographs: 85 KB on average, or 1 KB."""
    return [picture(seed, SMALL if small else SIZES) for seed in range(pictures)]


def picture(seed: int, sizes: tuple[tuple[int, int], ...]) -> bytes:
    rng = np.random.default_rng(seed)
    width, height = sizes[seed % len(sizes)]
    coarse = rng.integers(0, 256, (height // 64 + 2, width // 64 + 2, 3), dtype=np.uint8)
    image = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)).astype(np.int16)
    fine = rng.normal(0, 2.3, (height // 2, width // 2)).repeat(2, axis=0).repeat(2, axis=1)
    noisy = np.clip(image + fine[..., None], 0, 255).astype(np.uint8)
    buffer = BytesIO()
    Image.fromarray(noisy).save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


class Connection(asyncio.Protocol):
    """HTTP/1.1 with keep-alive, GET only."""

    def __init__(self, bodies: list[bytes], profile: Profile) -> None:
        self.bodies, self.profile = bodies, profile
        self.buffer = b""
        self.kind = "good"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        if not transport.get_extra_info("peername")[0].startswith("127."):
            transport.abort()
        self.kind = self.profile.kind(transport.get_extra_info("sockname")[0])

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while b"\r\n\r\n" in self.buffer:
            head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
            if self.kind != "hang":
                self.asked(head.split(b" ", 2)[1])

    def asked(self, path: bytes) -> None:
        if path == b"/robots.txt":
            self.transport.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            return
        number = int(path[1:].partition(b".")[0])
        wait_s = (self.profile.latency_ms + 5 + number * 7919 % 75) / 1000
        asyncio.get_running_loop().call_later(wait_s, self.answer, self.bodies[number % len(self.bodies)])

    def answer(self, body: bytes) -> None:
        if self.transport.is_closing():
            return
        head = f"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        if self.kind == "drip":
            self.transport.write(head)
            self.drip(body, 0)
        else:
            self.transport.write(head + body)

    def drip(self, body: bytes, position: int) -> None:
        if not self.transport.is_closing() and position < len(body):
            self.transport.write(body[position : position + 1])
            asyncio.get_running_loop().call_later(1.0, self.drip, body, position + 1)


def listener(port: int) -> socket.socket:
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # the processes share the port
    found.bind(("0.0.0.0", port))
    return found


async def serve(port: int, profile: Profile, bodies: list[bytes]) -> None:
    loop = asyncio.get_running_loop()

    def made() -> Connection:
        return Connection(bodies, profile)

    servers = [await loop.create_server(made, sock=listener(port), backlog=4096)]
    if profile.certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(profile.certificate)
        servers.append(await loop.create_server(made, sock=listener(port + 1), backlog=4096, ssl=context))
    os.write(1, b"ready\n")  # at one go: other processes write there too
    await asyncio.gather(*(server.serve_forever() for server in servers))


def run(port: int, profile: Profile, bodies: list[bytes]) -> None:
    threading.Thread(target=end_with_starter, daemon=True).start()
    asyncio.run(serve(port, profile, bodies))


def end_with_starter() -> None:
    """Who started this holds the other end of standard input, and lets go of it when it ends, however it ends."""
    while os.read(0, 1024):
        pass
    os._exit(0)


def main() -> None:
    port, profile = int(sys.argv[1]), Profile(**json.loads(sys.argv[2]))
    bodies = pool(profile.small)
    others = [
        multiprocessing.get_context("fork").Process(target=run, args=(port, profile, bodies), daemon=True)
        for _ in range(profile.processes - 1)
    ]
    for process in others:
        process.start()
    run(port, profile, bodies)


if __name__ == "__main__":
    main()
