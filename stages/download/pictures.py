"""From the bytes of a body to the picture as stored: checked, upright, plain RGB or grey, of the size asked for.

What is stored, by what came:
- a JPEG, PNG or WebP that is upright, 8-bit RGB or grey, in sRGB, one frame and of the right size: its own bytes, but
  those that follow the picture.
- everything else is encoded once more, as a JPEG of `quality`: rotated or mirrored by EXIF, of another size than asked
  for (bicubic over all pixels; a JPEG is first decoded at the reduced size that its DCT blocks give), GIF, BMP, TIFF,
  AVIF, animated (the first frame), palette, 1-bit, 16-bit (the high byte), CMYK, alpha (over white), or with an ICC
  profile other than sRGB (see colour.py).
SVG and every other kind is refused.
"""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from typing import Literal

import simplejpeg  # type: ignore[import-untyped]
from PIL import Image, PngImagePlugin

from pairloom.foreign import shown
from pairloom.phash import phash
from pairloom.pictures import DAMAGE, jpeg_damage
from stages.download import colour
from stages.download.failure import Failure
from stages.download.kinds import promise
from stages.download.whole import whole

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

# Pillow refuses a PNG with more than 1 MB of text, such as a workflow of an image generator. A body has 64 MB at most.
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY = 64 << 20

Resize = Literal["none", "longest", "shortest", "area"]
LONGEST_JPEG = 65_500  # pixels of a side that libjpeg writes
LEAST_SIDE = 16  # pixels, below which several of libjpeg's scales give the same size and other pixels


@dataclass(frozen=True)
class Limits:
    """What a picture may be, and how it is stored."""

    max_pixels: int  # width × height that the header may promise
    max_side: int  # pixels: of the longer side, the shorter one, or the side of a square of the same area, by `resize`
    quality: int  # of re-encoded JPEGs
    resize: Resize = "longest"
    upscale: bool = False  # whether smaller pictures are enlarged
    max_dimension: int = LONGEST_JPEG  # pixels of a side that the header may promise
    max_frames: int = 1000  # that the header may promise, the first one is stored

    def size(self, width: int, height: int) -> tuple[int, int]:
        """The size at which a picture of this size is stored. Raises Failure pixel-limit if it would be too large."""
        measure = {"none": 0.0, "longest": max(width, height), "shortest": min(width, height)}
        side = measure.get(self.resize, math.sqrt(width * height))
        if side == 0 or side == self.max_side or (side < self.max_side and not self.upscale):
            return width, height
        scaled = max(1, round(width * self.max_side / side)), max(1, round(height * self.max_side / side))
        if max(scaled) > LONGEST_JPEG or scaled[0] * scaled[1] > self.max_pixels:
            raise Failure("pixel-limit", f"{width} × {height} would become {scaled[0]} × {scaled[1]}")
        return scaled

    def check(self, width: int, height: int, frames: int) -> None:
        """Raises Failure pixel-limit."""
        if width * height > self.max_pixels:
            raise Failure("pixel-limit", f"{width} × {height} pixels, {self.max_pixels} allowed")
        if max(width, height) > self.max_dimension:
            raise Failure("pixel-limit", f"{width} × {height}, a side above {self.max_dimension}")
        if frames > self.max_frames:
            raise Failure("pixel-limit", f"more than {self.max_frames} frames")


@dataclass(frozen=True)
class Picture:
    """A picture as stored. Width and height in pixels."""

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


def normalise(body: bytes, kind: str, limits: Limits) -> Picture:
    """The stored form of a body that `kinds.sniff` calls `kind`.

    Raises Failure pixel-limit (before decoding), damaged-image or not-an-image (a pixel mode without a meaning).
    """
    opened, width, height = _open(body, kind, limits)
    alone = whole(body, kind)
    if alone is not body:
        body = alone
        opened, width, height = _open_again(body, kind, limits)
    # before all else: asking a PNG for its EXIF decodes it, and forgets damage
    pixels = _decode(opened, body, kind, limits)
    if kind == "tiff":  # Pillow turns TIFFs by itself
        orientation, (width, height) = 1, pixels.size
    else:
        orientation = _orientation(opened)
    if orientation >= 5 and orientation in UPRIGHT:
        width, height = height, width
    size = limits.size(width, height)
    plain, recoloured = colour.plain(opened, pixels)
    if orientation in UPRIGHT:
        plain = plain.transpose(UPRIGHT[orientation])
    keep = (
        kind in STORED_AS_IS
        and orientation not in UPRIGHT
        and not recoloured
        and size == (width, height)
        and not _hides_more(opened, body, kind)
    )
    if not keep and plain.size != size:
        plain = plain.resize(size, Image.Resampling.BICUBIC)
    stored, shown = (body, plain) if keep else _encode(plain, limits.quality)
    return Picture(stored, kind if keep else "jpeg", *shown.size, width, height, phash(shown))


def _open(body: bytes, kind: str, limits: Limits) -> tuple[Image.Image, int, int]:
    """The opened file and its size. Nothing is decoded before its header has been held against the limits."""
    promised = promise(body, kind, limits.max_frames)
    limits.check(promised.width, promised.height, promised.frames)
    with _damage_explained():
        opened = Image.open(BytesIO(body), formats=[kind.upper()])
        limits.check(*opened.size, getattr(opened, "n_frames", 1) if kind == "avif" else 1)
        return opened, *opened.size


def _open_again(body: bytes, kind: str, limits: Limits) -> tuple[Image.Image, int, int]:
    """What was cut or mended. Libjpeg says more of what is wrong with a JPEG than Pillow."""
    try:
        return _open(body, kind, limits)
    except Failure:
        if kind == "jpeg":
            _refuse_damage(body)
        raise


def _decode(opened: Image.Image, body: bytes, kind: str, limits: Limits) -> Image.Image:
    """The first frame's pixels; of a JPEG no more than needed, in steps of 1/2, 1/4 and 1/8."""
    with _damage_explained():
        size = limits.size(*opened.size)
        if kind == "jpeg" and size != opened.size:
            opened.draft(None, size)  # None keeps the mode
    if kind == "jpeg" and (pixels := strictly(opened, body)) is not None:
        return pixels
    with _damage_explained():
        opened.load()
        return opened.copy()  # what is still tied to the file may decode again, and fail again


def strictly(opened: Image.Image, body: bytes) -> Image.Image | None:
    """A JPEG's pixels at the size of `opened`, or None where Pillow has to decode them: CMYK, or a few pixels.

    Raises Failure damaged-image where data is missing or broken that Pillow does not miss: it shows the rest in grey.
    Both decoders are libjpeg-turbo, and a test holds their pixels to be the same.
    """
    width, height = opened.size
    shown = {"RGB": "RGB", "L": "GRAY"}.get(opened.mode) if max(width, height) >= LEAST_SIDE else None
    if shown is None:
        _refuse_damage(body)
        return None
    try:
        pixels = simplejpeg.decode_jpeg(body, shown, min_height=height, min_width=width, strict=True)
    except ValueError as error:
        raise Failure("damaged-image", f"JPEG: {error}"[:300]) from error
    if pixels.shape[:2] != (height, width):
        return None
    return Image.fromarray(pixels[:, :, 0] if shown == "GRAY" else pixels)


def _refuse_damage(body: bytes) -> None:
    if (damage := jpeg_damage(body)) is not None:
        raise Failure("damaged-image", f"JPEG: {damage}"[:300])


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
    """Turns what Pillow raises on a bad file into a Failure. Its warnings about odd metadata are of no use here."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise Failure("pixel-limit", shown(str(error))) from error
    except DAMAGE as error:
        raise Failure("damaged-image", shown(f"{type(error).__name__}: {error}")[:300]) from error
