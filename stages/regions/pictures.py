"""From a stored picture's bytes to what the network sees, ahead of the network and in threads of their own."""

from __future__ import annotations

import io
import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from stages.pixels import NoPictureError

SAMPLE_FORMAT, FLOATS = 339, 3  # a tag of TIFF, and its value for floating-point numbers
MOST_TAGS = 4096  # looked at, real files have dozens

T = TypeVar("T")
R = TypeVar("R")


class Preparing(Protocol):
    """What is asked of a network here. Stage `score` has another kind of them."""

    def prepare(self, picture: Image.Image, /) -> Tensor: ...


@dataclass(frozen=True)
class Prepared:
    """One picture, ready for the network."""

    row: int  # of the input table
    size: tuple[int, int]  # (height, width) as stored, upright
    image: Tensor  # as Network.prepare made it


@dataclass(frozen=True)
class Unreadable:
    """A picture that is none. `reason` is a word of schemas.quarantine.REASONS."""

    row: int
    reason: str
    detail: str


class NoRangeError(ValueError):
    """Its pixels are floating-point numbers, and no one knows which of them are black and white."""


def decode(encoded: bytes) -> Image.Image:
    """The picture as RGB: upright, transparent parts on white, 16-bit grey scaled to 8.

    Raises OSError if it is damaged, NoRangeError (a ValueError) for a floating-point TIFF.
    """
    if _is_of_floats(encoded):
        raise NoRangeError("its pixels are floating-point numbers of no defined range: save it with 8 or 16 bits")
    try:
        picture = Image.open(io.BytesIO(encoded))
    except UnidentifiedImageError as error:  # its message has the address of an object, which differs in each run
        raise UnidentifiedImageError("it cannot be identified as a picture") from error
    picture.load()
    ImageOps.exif_transpose(picture, in_place=True)  # download stores upright pictures, a user's folder need not
    if picture.mode.startswith("I"):
        return Image.fromarray((np.asarray(picture).clip(0, 65535) >> 8).astype(np.uint8)).convert("RGB")
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        ground = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(ground, layer).convert("RGB")
    return picture.convert("RGB")


def _is_of_floats(encoded: bytes) -> bool:
    """Whether it is a TIFF of floats. Pillow shows one channel of 32 bits as if it held 0 to 255, and no other kind."""
    order = {b"II": "<", b"MM": ">"}.get(encoded[:2])
    if order is None:
        return False
    try:
        return FLOATS in _sample_format(encoded, order)
    except struct.error:  # it is damaged as well
        return False


def _sample_format(encoded: bytes, order: str) -> tuple[int, ...]:
    """The values of tag SampleFormat in the first directory of a TIFF or BigTIFF, none if it is not there.

    Read here, since Pillow's reader of tags warns, which threads cannot silence for themselves.
    """
    big = struct.unpack_from(f"{order}H", encoded, 2) == (43,)
    number, count, entry = ("Q", "Q", "HHQ") if big else ("I", "H", "HHI")
    (at,) = struct.unpack_from(order + number, encoded, 8 if big else 4)
    (entries,) = struct.unpack_from(order + count, encoded, at)
    first, size, inline = at + struct.calcsize(f"<{count}"), 20 if big else 12, struct.calcsize(f"<{number}")
    for place in range(first, first + min(entries, MOST_TAGS) * size, size):
        tag, _, values = struct.unpack_from(order + entry, encoded, place)
        if tag == SAMPLE_FORMAT:
            place += size - inline
            if 2 * values > inline:
                (place,) = struct.unpack_from(order + number, encoded, place)
            found: tuple[int, ...] = struct.unpack_from(f"{order}{min(values, MOST_TAGS)}H", encoded, place)
            return found
    return ()


def prepare(row: int, read: Callable[[], bytes], network: Preparing) -> Prepared | Unreadable:
    """The picture as the network wants it. Only that is kept, so that a huge picture is in memory once and briefly."""
    try:
        picture = decode(read())
    except Image.DecompressionBombError as error:
        return Unreadable(row, "pixel-limit", str(error))
    except NoPictureError as error:
        return Unreadable(row, "no-picture", str(error))
    except NoRangeError as error:
        return Unreadable(row, "not-an-image", str(error))
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow's decoders raise on damaged files
        reason = error.strerror if isinstance(error, OSError) else None  # the message would name a path of this machine
        return Unreadable(row, "damaged-image", reason or str(error))
    return Prepared(row, (picture.height, picture.width), network.prepare(picture))


def ahead(step: Callable[[T], R], items: Iterable[T], threads: int, waiting: int = 3) -> Iterator[R]:
    """step(item) of each item in order, made in threads; for each thread that works, so many wait or are done."""
    with ThreadPoolExecutor(threads, thread_name_prefix="ahead") as pool:
        made: deque[Future[R]] = deque()
        for item in items:
            made.append(pool.submit(step, item))
            if len(made) > (1 + waiting) * threads:
                yield made.popleft().result()
        while made:
            yield made.popleft().result()
