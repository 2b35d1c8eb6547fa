"""The project's own web for benchmarks: pictures made by seed, on many loopback hosts, some slow, silent or dead.

`python -m benchmarks.web PORT DRIP HANG` serves until it is killed. Every host 127.1.y.z is its own; a hash of its name
says what it is like: good, slow-drip or hanging (DRIP and HANG percent of the hosts). Path /N.jpg answers picture N of
the pool, after a latency of 5 to 80 ms by N. Clients that are not on this machine are not answered.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
import zlib
from functools import cache
from io import BytesIO

import numpy as np
from PIL import Image

POOL = 64
SIZES = ((640, 480), (800, 600), (1024, 768), (1280, 960), (1536, 1024))  # pixels; about 85 KB on average


@cache
def pool(pictures: int = POOL) -> list[bytes]:
    """Pictures with some detail: smooth colours under noise, so that sizes are like those of photographs."""
    return [picture(seed) for seed in range(pictures)]


def picture(seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    width, height = SIZES[seed % len(SIZES)]
    small = rng.integers(0, 256, (height // 64, width // 64, 3), dtype=np.uint8)
    image = np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)).astype(np.int16)
    fine = rng.normal(0, 3.0, (height // 2, width // 2)).repeat(2, axis=0).repeat(2, axis=1)
    noisy = np.clip(image + fine[..., None], 0, 255).astype(np.uint8)
    buffer = BytesIO()
    Image.fromarray(noisy).save(buffer, "JPEG", quality=87)
    return buffer.getvalue()


def host(number: int) -> str:
    """A loopback address of its own for each host number below 60,000."""
    return f"127.1.{number // 250}.{number % 250 + 1}"


def kind(address: str, drip: int, hang: int) -> str:
    """What a host is like; drip and hang in percent of the hosts."""
    share = zlib.crc32(address.encode()) % 100
    return "drip" if share < drip else "hang" if share < drip + hang else "good"


class Picture(asyncio.Protocol):
    """One connection; HTTP/1.1 with keep-alive, GET only."""

    def __init__(self, bodies: list[bytes], drip: int, hang: int) -> None:
        self.bodies, self.drip, self.hang = bodies, drip, hang
        self.buffer = b""
        self.behaviour = "good"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        if not transport.get_extra_info("peername")[0].startswith("127."):
            transport.abort()
        self.behaviour = kind(transport.get_extra_info("sockname")[0], self.drip, self.hang)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while b"\r\n\r\n" in self.buffer:
            head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
            path = head.split(b" ", 2)[1]
            if self.behaviour == "hang":
                continue
            loop = asyncio.get_running_loop()
            if path == b"/robots.txt":
                self.transport.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
                continue
            number = int(path[1:].partition(b".")[0])
            loop.call_later(0.005 + number * 7919 % 75 / 1000, self._answer, self.bodies[number % len(self.bodies)])

    def _answer(self, body: bytes) -> None:
        if self.transport.is_closing():
            return
        self.transport.write(
            f"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        )
        if self.behaviour == "drip":
            self._drip(body, 0)
        else:
            self.transport.write(body)

    def _drip(self, body: bytes, position: int) -> None:
        if not self.transport.is_closing() and position < len(body):
            self.transport.write(body[position : position + 1])
            asyncio.get_running_loop().call_later(1.0, self._drip, body, position + 1)


async def serve(port: int, drip: int, hang: int, tls: ssl.SSLContext | None = None) -> None:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # several processes share the port
    listener.bind(("0.0.0.0", port))
    bodies = pool()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Picture(bodies, drip, hang), sock=listener, backlog=4096, ssl=tls)
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
