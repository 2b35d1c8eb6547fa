"""From the bytes of a body to the picture as stored: checked, upright, plain RGB or grey, not too large.

What is stored, by what came:
- a JPEG, PNG or WebP that is upright, 8-bit RGB or grey, in sRGB, one frame and within `max_side`: its own bytes;
- everything else is re-encoded once, as a JPEG of `quality`: rotated or mirrored by EXIF, larger than `max_side`
  (Lanczos, never enlarged), GIF, BMP, TIFF, AVIF, animated (the first frame), palette, 1-bit, 16-bit (the high byte),
  CMYK, alpha (over white), or with an ICC profile other than sRGB (see colour.py).
SVG and every other kind is refused.
"""

from __future__ import annotations

import hashlib
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO

from PIL import Image

from stages.download import colour
from stages.download.failure import Failure
from stages.download.phash import phash

Transpose = Image.Transpose
# EXIF orientation -> what makes the picture upright (EXIF 2.32, tag 0x0112; the same table as Pillow's ImageOps).
UPRIGHT = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
ORIENTATION = 0x0112
STORED_AS_IS = frozenset({"jpeg", "png", "webp"})
AVIF_BRANDS = frozenset({b"avif", b"avis", b"mif1", b"msf1"})
# All that Pillow's decoders raise on damaged files; UnidentifiedImageError is an OSError.
DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    EOFError,
    MemoryError,
    RuntimeError,
    struct.error,
    zlib.error,
)


@dataclass(frozen=True)
class Limits:
    """What a picture may be, and how it is stored."""

    max_pixels: int  # width × height that the header may promise
    max_side: int  # pixels of the longer side as stored
    quality: int  # of re-encoded JPEGs


@dataclass(frozen=True)
class Picture:
    """A picture as stored; width and height in pixels."""

    image: bytes
    format: str  # jpeg, png or webp
    width: int
    height: int
    original_width: int  # as fetched, after EXIF orientation
    original_height: int
    phash: int

    @cached_property
    def image_id(self) -> bytes:
        """The first 128 bits of the SHA-256 of the stored bytes."""
        return hashlib.sha256(self.image).digest()[:16]


def sniff(head: bytes) -> str | None:
    """The kind of a picture by its first 12 bytes or more: jpeg, png, webp, gif, bmp, tiff, avif; else None."""
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
    if head[:4] in (b"II*\0", b"MM\0*"):
        return "tiff"
    if head[4:8] == b"ftyp" and head[8:12] in AVIF_BRANDS:
        return "avif"
    return None


def normalise(body: bytes, kind: str, limits: Limits) -> Picture:
    """The stored form of a body that `sniff` calls `kind`.

    Raises Failure pixel-limit (before decoding), damaged-image or not-an-image (a pixel mode without a meaning).
    """
    opened, pixels = _decode(body, kind, limits)
    orientation = 1 if kind == "tiff" else _orientation(opened)  # Pillow turns TIFFs by itself
    plain, recoloured = colour.plain(opened, pixels)
    if orientation in UPRIGHT:
        plain = plain.transpose(UPRIGHT[orientation])
    width, height = plain.size
    small = _fit(plain, limits.max_side)
    keep = (
        kind in STORED_AS_IS
        and orientation not in UPRIGHT
        and not recoloured
        and small is plain
        and not _hides_more(opened, body, kind)
    )
    stored, shown = (body, plain) if keep else _encode(small, limits.quality)
    return Picture(stored, kind if keep else "jpeg", *shown.size, width, height, phash(shown))


def _decode(body: bytes, kind: str, limits: Limits) -> tuple[Image.Image, Image.Image]:
    """The opened file (for what its header says) and its first frame's pixels."""
    with _damage_explained():
        opened = Image.open(BytesIO(body), formats=[kind.upper()])
        if opened.width * opened.height > limits.max_pixels:
            raise Failure("pixel-limit", f"{opened.width} × {opened.height} pixels, {limits.max_pixels} allowed")
        opened.load()
        return opened, opened.copy()


def _orientation(opened: Image.Image) -> int:
    try:
        with _damage_explained():
            value = opened.getexif().get(ORIENTATION, 1)
    except Failure:  # broken EXIF says nothing about the pixels
        return 1
    return value if isinstance(value, int) else 1


def _hides_more(opened: Image.Image, body: bytes, kind: str) -> bool:
    """Whether the file holds more than the 8-bit still picture that Pillow shows, so other readers may differ."""
    sixteen_bits = kind == "png" and body[24] == 16  # bit depth in IHDR
    return sixteen_bits or (kind != "jpeg" and getattr(opened, "is_animated", False))


def _fit(image: Image.Image, max_side: int) -> Image.Image:
    longest = max(image.size)
    if longest <= max_side:
        return image
    width, height = (max(1, round(side * max_side / longest)) for side in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)


def _encode(image: Image.Image, quality: int) -> tuple[bytes, Image.Image]:
    """The picture as a JPEG without any metadata, and as a reader will see it."""
    image.info = {}
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    shown = Image.open(buffer, formats=["JPEG"])
    shown.load()
    return buffer.getvalue(), shown


@contextmanager
def _damage_explained() -> Iterator[None]:
    """Turns what Pillow raises on a bad file into a Failure; its warnings about odd metadata are of no use here."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise Failure("pixel-limit", str(error)) from error
    except DAMAGE as error:
        raise Failure("damaged-image", f"{type(error).__name__}: {error}"[:300]) from error
