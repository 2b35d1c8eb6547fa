"""From a stored picture's bytes to what the network sees, ahead of the network and in threads of their own."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from PIL import Image, ImageOps
from torch import Tensor

from stages.regions.contract import Network

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Prepared:
    """One picture, ready for the network."""

    row: int  # of the input table
    size: tuple[int, int]  # (height, width) as stored, upright
    image: Tensor  # as Network.prepare made it


@dataclass(frozen=True)
class Unreadable:
    """A picture that is none; `reason` is a word of schemas.quarantine.REASONS."""

    row: int
    reason: str
    detail: str


def decode(encoded: bytes) -> Image.Image:
    """The picture as RGB: upright, transparent parts on white, 16-bit grey scaled to 8. OSError if it is damaged."""
    picture = Image.open(io.BytesIO(encoded))
    picture.load()
    ImageOps.exif_transpose(picture, in_place=True)  # download stores upright pictures; a user's folder need not
    if picture.mode.startswith("I"):
        return Image.fromarray((np.asarray(picture).clip(0, 65535) >> 8).astype(np.uint8)).convert("RGB")
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        ground = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(ground, layer).convert("RGB")
    return picture.convert("RGB")


def prepare(row: int, read: Callable[[], bytes], network: Network) -> Prepared | Unreadable:
    """The picture as the network wants it; only that is kept, so that a huge picture is in memory once and briefly."""
    try:
        picture = decode(read())
    except Image.DecompressionBombError as error:
        return Unreadable(row, "pixel-limit", str(error))
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow's decoders raise on damaged files
        return Unreadable(row, "damaged-image", str(error))
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
