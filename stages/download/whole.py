"""Where a picture ends in its body: half a picture is damaged, and what follows one is cut.

Whether the data of a JPEG are whole shows when they are decoded (pictures.py).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np

from stages.download.failure import Failure
from stages.download.kinds import png_chunks

EOI = b"\xff\xd9"
SOS = 0xDA
ALONE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a segment
WINDOW = 1 << 20  # bytes that are searched at a time
MOST_SCANS = 500  # of a progressive JPEG. An encoder writes about ten, and each costs the time of a whole decoding


def whole(body: bytes, kind: str) -> bytes:
    """The picture alone: without what follows it, and with the end marker that a JPEG may lack.

    The same object if nothing is to be done. Raises Failure damaged-image if data is missing that Pillow does not miss:
    it shows the rest of a JPEG in grey, and a palette picture without its palette.
    """
    if kind == "jpeg":
        return _whole_jpeg(body)
    if kind == "png":
        return _whole_png(body)
    if kind == "webp":
        (length,) = struct.unpack_from("<I", body, 4)
        end = 8 + length + (length & 1)
        return body[:end] if end < len(body) else body
    return body


def _whole_jpeg(body: bytes) -> bytes:
    end, scans = _jpeg_end(body)
    if scans > MOST_SCANS:
        raise Failure("damaged-image", f"{scans} scans, {MOST_SCANS} allowed")
    if end is None:
        return body + EOI
    return body[:end] if end < len(body) else body


def _jpeg_end(body: bytes) -> tuple[int | None, int]:
    """Where the picture ends (None if it has no end marker), and how many scans it has."""
    position, scans = 2, 0
    for place in _markers(body):
        if place < position + 1:
            continue  # in a segment, such as a preview in EXIF
        marker, position = body[place], place + 1
        if marker == EOI[1]:
            return position, scans
        if marker in ALONE:
            continue
        if position + 2 > len(body):
            break
        position += int.from_bytes(body[position : position + 2], "big")
        scans += marker == SOS
    return None, scans


def _markers(body: bytes) -> Iterator[int]:
    """Where the second byte of each marker is: after FF, not 00 (a byte of data) or D0 to D7 (restarts).

    ITU-T T.81, B.1.1.2. A regular expression took half a millisecond of 100 KB.
    """
    for start in range(0, len(body), WINDOW):
        values = np.frombuffer(body, np.uint8, min(WINDOW + 1, len(body) - start), start)
        after = np.flatnonzero(values[:-1] == 0xFF) + 1
        second = values[after]
        marks = (second != 0) & (second != 0xFF) & ((second & 0xF8) != 0xD0)
        yield from (after[marks] + start).tolist()


def _whole_png(body: bytes) -> bytes:
    palette, needs_palette = False, body[25:26] == b"\x03"  # the colour type in IHDR
    for name, start, length in png_chunks(body):
        palette |= name == b"PLTE"
        if name == b"IDAT" and needs_palette and not palette:
            raise Failure("damaged-image", "PNG: a picture of palette colours has no palette")
        if name == b"IEND":
            end = start + length + 4
            return body[:end] if end < len(body) else body
    return body
