"""Small files whose headers promise more pixels than any memory holds."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

from tests.stages.download.hostile import encoded, jpeg


def png(width: int, height: int, depth: int = 8, colour: int = 2, data: bytes = b"") -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        check = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def gif(width: int, height: int) -> bytes:
    screen = b"GIF89a" + struct.pack("<HHBBB", width, height, 0, 0, 0)
    return screen + b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02\x4c\x01\x00;"


def bmp(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IIIIiiHHIIIIII", 54, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


def tiff(width: int, height: int) -> bytes:
    """A small TIFF whose tags 256 and 257 say another size."""
    body = bytearray(encoded(Image.fromarray(np.zeros((8, 8, 3), np.uint8)), "TIFF"))
    for tag, kind, place in _entries(body):
        if tag in (256, 257):
            struct.pack_into("<I" if kind == 4 else "<H", body, place, width if tag == 256 else height)
    return bytes(body)


def _entries(body: bytearray) -> Iterator[tuple[int, int, int]]:
    """Tag, type and place of the value of each entry of the first directory."""
    (place,) = struct.unpack_from("<I", body, 4)
    (entries,) = struct.unpack_from("<H", body, place)
    for entry in range(place + 2, place + 2 + 12 * entries, 12):
        tag, kind = struct.unpack_from("<HH", body, entry)
        yield tag, kind, entry + 8


def webp(width: int, height: int) -> bytes:
    """A small lossless WebP whose header says another size, at most 16,384 each."""
    body = bytearray(encoded(Image.fromarray(np.zeros((8, 8, 3), np.uint8)), "WEBP", lossless=True))
    (bits,) = struct.unpack_from("<I", body, 21)
    struct.pack_into("<I", body, 21, bits >> 28 << 28 | height - 1 << 14 | width - 1)
    return bytes(body)


BOMBS = {
    "PNG of 60,000 × 60,000": png(60_000, 60_000, data=zlib.compress(bytes(1 << 20))),
    "PNG of 9,000 × 9,000, which Pillow would take": png(9_000, 9_000, data=zlib.compress(bytes(81_000_000 * 3), 1)),
    "GIF of 65,000 × 65,000": gif(65_000, 65_000),
    "BMP of 2,000,000 × 2,000,000": bmp(2_000_000, 2_000_000),
    "TIFF of 60,000 × 60,000": tiff(60_000, 60_000),
    "WebP of 16,384 × 16,384": webp(16_384, 16_384),
    "JPEG of 65,280 × 65,280": jpeg().replace(b"\x00\x30\x00\x40\x03", b"\xff\x00\xff\x00\x03"),
}
