"""Units `pixels`: the picture itself, a square of it, decoded from the stored bytes."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import simplejpeg  # type: ignore[import-untyped]
from PIL import Image

from trainer.batch import Pixels

if TYPE_CHECKING:
    from trainer.rows import Row

JPEG = b"\xff\xd8\xff"  # how each begins
Box = tuple[float, float, float, float]  # x1 y1 x2 y2, pixels


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A square crop, resized to `size` and normalised; training crops at random, evaluation from the centre.

    min_side: side of the smallest random crop as a share of the picture's shorter side. 1 is CLIP's paper, whose only
    augmentation is a random square crop of the resized picture; below 1 the crops also differ in size.
    """

    size: int  # pixels of a side
    min_side: float
    mean: tuple[float, float, float]  # of red, green, blue, 0 to 1
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        assert self.size > 0


def columns(settings: Settings) -> tuple[str, ...]:
    return ("image",)


def shapes(settings: Settings, metadata: Mapping[str, str]) -> dict[str, int]:
    return {"image_size": settings.size}


def load(row: Row, settings: Settings, rng: np.random.Generator | None) -> Pixels:
    """The picture's crop: random with rng, else central. Bicubic, as CLIP's."""
    return decode(row.value("image"), settings, rng)


def decode(image: bytes, settings: Settings, rng: np.random.Generator | None) -> Pixels:
    picture = opened(image, math.ceil(settings.size / settings.min_side))
    box = crop(*picture.size, settings.min_side, rng)
    resized = picture.resize((settings.size,) * 2, Image.Resampling.BICUBIC, box=box, reducing_gap=2.0)
    values_3SS = np.empty((3, settings.size, settings.size), np.float32)
    for plane_SS, band, mean, std in zip(values_3SS, resized.split(), settings.mean, settings.std, strict=True):
        np.multiply(np.asarray(band), np.float32(1 / (255 * std)), out=plane_SS)
        plane_SS -= np.float32(mean / std)
    return Pixels(values_3SS)


def opened(image: bytes, side: int) -> Image.Image:
    """The picture in RGB, no smaller than `side` if it is not smaller itself.

    A JPEG decoder can shrink while it decodes, which is most of the cost of a large picture; simplejpeg was the fastest
    (docs/loader.md). What it does not know, such as CMYK, and other formats are Pillow's.
    """
    if image.startswith(JPEG):
        with contextlib.suppress(ValueError):
            return Image.fromarray(simplejpeg.decode_jpeg(image, min_height=side, min_width=side))
    with Image.open(io.BytesIO(image)) as picture:
        picture.draft("RGB", (side, side))
        return picture.convert("RGB")


def crop(width: int, height: int, min_side: float, rng: np.random.Generator | None) -> Box:
    """A square x1 y1 x2 y2 inside the picture: the largest central one, or one of random side and place."""
    side = min(width, height) * (1.0 if rng is None else rng.uniform(min_side, 1))
    across, down = (0.5, 0.5) if rng is None else rng.uniform(size=2)
    left, top = (width - side) * across, (height - side) * down
    return left, top, min(left + side, width), min(top + side, height)
