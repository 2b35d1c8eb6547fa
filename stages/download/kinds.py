"""What a body is by its first bytes, and what its header promises, read without decoding or allocating anything."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

AVIF_BRANDS = frozenset({b"avif", b"avis", b"mif1", b"msf1"})
BIG_TIFF = b"II+\0"  # with offsets of 64 bits. Pillow does not read big-endian ones
GIF_EXTENSION, GIF_IMAGE = 0x21, 0x2C


@dataclass(frozen=True)
class Promise:
    """Size in pixels as far as the header says it (0: not here), and the number of frames (counted up to a limit)."""

    width: int = 0
    height: int = 0
    frames: int = 1


def sniff(head: bytes) -> str | None:
    """The kind of a picture by its first 12 bytes or more: jpeg, png, webp, gif, bmp, tiff, avif, else None."""
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return "gif"
    if head[:2] == b"BM":
        return "bmp"
    if head[:4] in (b"II*\0", b"MM\0*", BIG_TIFF):
        return "tiff"
    if head[4:8] == b"ftyp" and head[8:12] in AVIF_BRANDS:
        return "avif"
    return None


def promise(body: bytes, kind: str, max_frames: int) -> Promise:
    """What the header of a PNG, WebP, GIF or TIFF promises. Pillow reads the others' sizes without decoding.

    Frames are counted to max_frames + 1 at most. A damaged header promises nothing: the decoder will say so.
    """
    readers = {"png": _png, "webp": _webp, "gif": _gif, "tiff": _tiff}
    try:
        return readers[kind](body, max_frames + 1) if kind in readers else Promise()
    except (struct.error, IndexError):
        return Promise()


def _png(body: bytes, most: int) -> Promise:
    width, height = struct.unpack_from(">II", body, 16)
    frames = 1
    for name, start, _ in png_chunks(body):
        if name == b"acTL":  # an animation's control chunk comes before the first data
            frames = struct.unpack_from(">I", body, start)[0]
        if name == b"IDAT":
            break
    return Promise(width, height, max(1, min(frames, most)))


def png_chunks(body: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(name, position of its data, their length) of each chunk."""
    position = 8
    while position + 8 <= len(body):
        (length,) = struct.unpack_from(">I", body, position)
        yield body[position + 4 : position + 8], position + 8, length
        position += length + 12


def _webp(body: bytes, most: int) -> Promise:
    first = body[12:16]
    if first == b"VP8X":  # 24 bits each, less one
        width = int.from_bytes(body[24:27], "little") + 1
        height = int.from_bytes(body[27:30], "little") + 1
        frames = sum(1 for _ in islice((name for name in _riff_chunks(body) if name == b"ANMF"), most))
        return Promise(width, height, max(1, frames))
    if first == b"VP8L":  # 14 bits each, less one, after a signature byte
        (bits,) = struct.unpack_from("<I", body, 21)
        return Promise((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    if first == b"VP8 ":
        width, height = struct.unpack_from("<HH", body, 26)
        return Promise(width & 0x3FFF, height & 0x3FFF)
    return Promise()


def _riff_chunks(body: bytes) -> Iterator[bytes]:
    position = 12
    while position + 8 <= len(body):
        yield body[position : position + 4]
        (length,) = struct.unpack_from("<I", body, position + 4)
        position += 8 + length + (length & 1)


def _gif(body: bytes, most: int) -> Promise:
    width, height, flags = struct.unpack_from("<HHB", body, 6)
    frames = sum(1 for _ in islice(_gif_images(body, 13 + _palette(flags)), most))
    return Promise(width, height, max(1, frames))


def _gif_images(body: bytes, position: int) -> Iterator[None]:
    while position < len(body):
        if body[position] == GIF_EXTENSION:
            position = _after_blocks(body, position + 2)
        elif body[position] == GIF_IMAGE:
            yield None
            position = _after_blocks(body, position + 11 + _palette(body[position + 9]))
        else:
            return


def _palette(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _after_blocks(body: bytes, position: int) -> int:
    while body[position]:
        position += body[position] + 1
    return position + 1


def _tiff(body: bytes, most: int) -> Promise:
    order = "<" if body[:2] == b"II" else ">"
    # sizes of the first offset's place, a directory's count and an entry, and the formats of count and offset
    start, count_size, entry, count, offset = (8, 8, 20, "Q", "Q") if body[:4] == BIG_TIFF else (4, 2, 12, "H", "I")
    (place,) = struct.unpack_from(order + offset, body, start)
    seen: set[int] = set()
    while place and place not in seen and len(seen) < most:
        seen.add(place)
        (entries,) = struct.unpack_from(order + count, body, place)
        (place,) = struct.unpack_from(order + offset, body, place + count_size + entry * entries)
    return Promise(frames=max(1, len(seen)))
