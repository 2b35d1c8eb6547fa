"""Pictures that are not whole, and what follows a whole one: the right pixels or the right reason."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from stages.download.failure import Failure
from stages.download.kinds import promise, sniff
from stages.download.pictures import Limits, Picture, normalise
from stages.download.whole import MOST_SCANS, whole
from tests.stages.download.hostile import scene
from tests.stages.download.picture_checks import LIMITS, pixels, refusal, stored

RGB = Image.fromarray(scene(120, 90))


def jpeg(**options: object) -> bytes:
    buffer = BytesIO()
    RGB.save(buffer, "JPEG", quality=95, **options)
    return buffer.getvalue()


PLAIN, PROGRESSIVE = jpeg(), jpeg(progressive=True)
THUMBNAIL = b"Exif\0\0" + jpeg()  # a whole JPEG within a segment


@pytest.mark.parametrize("body", [PLAIN, PROGRESSIVE], ids=["baseline", "progressive"])
@pytest.mark.parametrize("end", [b"", b"\xff\xd9"], ids=["cut", "cut, with an end marker"])
def test_half_a_jpeg_is_damaged(body: bytes, end: bytes) -> None:
    assert refusal(body[: len(body) // 2] + end) == "damaged-image"


@pytest.mark.parametrize("body", [PLAIN, PROGRESSIVE], ids=["baseline", "progressive"])
def test_a_jpeg_with_a_broken_middle_is_damaged(body: bytes) -> None:
    middle = len(body) // 2
    assert refusal(body[:middle] + bytes(300) + body[middle + 300 :]) == "damaged-image"


@given(cut=st.integers(700, len(PLAIN) - 3))
@settings(max_examples=60, deadline=None)
def test_a_jpeg_that_lacks_data_is_damaged_wherever_it_was_cut(cut: int) -> None:
    found = outcome(PLAIN[:cut] + b"\xff\xd9")
    if isinstance(found, Failure):
        assert found.reason == "damaged-image"
    else:  # only padding was missing
        assert np.array_equal(pixels(found), np.asarray(Image.open(BytesIO(PLAIN))))


def outcome(body: bytes) -> Picture | Failure:
    try:
        return stored(body)
    except Failure as failure:
        return failure


def test_a_jpeg_that_lacks_its_end_marker_alone_is_whole_and_gets_one() -> None:
    assert stored(PLAIN[:-2]).image == PLAIN
    assert stored(PROGRESSIVE[:-2]).image == PROGRESSIVE


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("tail", [b"\0", b"GIF89a" * 50, PLAIN], ids=["a zero", "noise", "another picture"])
def test_what_follows_a_picture_is_cut(kind: str, tail: bytes) -> None:
    buffer = BytesIO()
    RGB.save(buffer, kind, quality=90)
    body = buffer.getvalue()
    assert stored(body + tail).image == body


def test_an_end_marker_within_a_segment_is_not_the_end() -> None:
    segment = b"\xff\xe1" + struct.pack(">H", len(THUMBNAIL) + 2) + THUMBNAIL
    body = PLAIN[:2] + segment + PLAIN[2:]
    assert whole(body, "jpeg") is body
    assert whole(body + b"tail", "jpeg") == body


def test_a_jpeg_of_very_many_scans_is_not_decoded() -> None:
    start = PROGRESSIVE.rindex(b"\xff\xda")
    scan = PROGRESSIVE[start:-2]
    body = PROGRESSIVE[:-2] + scan * MOST_SCANS + b"\xff\xd9"
    with pytest.raises(Failure, match=f"{MOST_SCANS} allowed"):
        whole(body, "jpeg")


def png(mode: bytes, depth: int, rows: bytes, *chunks: tuple[bytes, bytes], size: tuple[int, int]) -> bytes:
    header = struct.pack(">IIBBBBB", *size, depth, mode[0], 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    found = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + found


def test_a_palette_picture_without_a_palette_is_damaged() -> None:
    body = png(b"\x03", 8, b"\0\0\1\0\1\0", size=(2, 2))
    assert refusal(body) == "damaged-image"
    palette = (b"PLTE", bytes([10, 20, 30, 40, 50, 60]))
    assert stored(png(b"\x03", 8, b"\0\0\1\0\1\0", palette, size=(2, 2))).width == 2


def test_the_transparent_value_of_a_grey_picture_of_16_bits_is_white() -> None:
    values = np.array([[0x1234, 0x1235], [0xFFFF, 0x0000]], ">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    body = png(b"\x00", 16, rows, (b"tRNS", struct.pack(">H", 0x1234)), size=(2, 2))
    large = Limits(max_pixels=10**6, max_side=256, quality=100)
    found = pixels(normalise(body, "png", large))
    assert np.abs(found - np.array([[255, 0x12], [255, 0]])).max() <= 2
    plain = pixels(normalise(png(b"\x00", 16, rows, size=(2, 2)), "png", large))
    assert np.abs(plain - np.array([[0x12, 0x12], [255, 0]])).max() <= 2


@pytest.mark.parametrize("compressed", [False, True])
def test_a_png_with_megabytes_of_text_is_a_picture(compressed: bool) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("workflow", "x" * (3 << 20), zip=compressed)
    buffer = BytesIO()
    RGB.save(buffer, "PNG", pnginfo=info)
    assert np.array_equal(pixels(stored(buffer.getvalue())), np.asarray(RGB))


def test_a_big_tiff_is_read_and_its_frames_are_counted() -> None:
    buffer = BytesIO()
    frames = np.stack([scene(64, 48)] * 3)
    tifffile.imwrite(buffer, frames, bigtiff=True, byteorder="<", photometric="rgb")
    body = buffer.getvalue()
    assert sniff(body[:32]) == "tiff"
    assert promise(body, "tiff", 1000).frames == 3
    assert np.abs(pixels(stored(body)) - frames[0].astype(int)).max() <= 16
    with pytest.raises(Failure, match="more than 2 frames"):
        normalise(body, "tiff", Limits(LIMITS.max_pixels, LIMITS.max_side, LIMITS.quality, max_frames=2))
