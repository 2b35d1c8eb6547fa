"""Whether a body is a whole picture, and where it ends: half a JPEG is damaged, and what follows a picture is cut."""

from __future__ import annotations

import re
import struct

from pairloom.pictures import jpeg_damage
from stages.download.failure import Failure
from stages.download.kinds import png_chunks

EOI = b"\xff\xd9"
SOS = 0xDA
ALONE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a segment
MOST_SCANS = 500  # of a progressive JPEG; an encoder writes about ten, and each costs the time of a whole decoding
# The next marker in a scan's data, where FF00 is a byte and FFD0 to FFD7 restart the coding (ITU-T T.81, B.1.1.2).
NEXT_MARKER = re.compile(rb"\xff+[\x01-\xcf\xd8-\xfe]")


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
        body += EOI
    elif end < len(body):
        body = body[:end]
    if (damage := jpeg_damage(body)) is not None:
        raise Failure("damaged-image", f"JPEG: {damage}"[:300])
    return body


def _jpeg_end(body: bytes) -> tuple[int | None, int]:
    """Where the picture ends (None if it has no end marker), and how many scans it has."""
    position, scans = 2, 0
    while found := NEXT_MARKER.search(body, position):
        marker, position = body[found.end() - 1], found.end()
        if marker == EOI[1]:
            return position, scans
        if marker in ALONE:
            continue
        if position + 2 > len(body):
            break
        position += int.from_bytes(body[position : position + 2], "big")
        scans += marker == SOS
    return None, scans


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
