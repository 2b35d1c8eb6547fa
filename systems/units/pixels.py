"""Units `pixels`: the picture itself, a square of it or all of it, decoded from the stored bytes."""

from __future__ import annotations

import contextlib
import io
import json
import math
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import simplejpeg  # type: ignore[import-untyped]
from PIL import Image

from pairloom.errors import ConfigError
from pairloom.foreign import shown
from pairloom.loader.batch import Pixels
from pairloom.loader.pictures import Finish, Picture, Shown, drawing_by
from pairloom.loader.row import Row
from pairloom.table import Array
from pairloom.typed import Positive, Range, Share, check_ranges

JPEG = b"\xff\xd8\xff"  # how each begins
# What Pillow raises on what it cannot decode. UnidentifiedImageError is an OSError. A lack of memory is another matter.
UNDECODABLE = (
    *(OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, EOFError, RuntimeError),
    *(struct.error, zlib.error, Image.DecompressionBombError),
)
GAP = 2.0  # Image.resize's reducing_gap
Box = tuple[float, float, float, float]  # x1 y1 x2 y2, pixels


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What part of the picture is shown at what size. Training draws at random, evaluation takes the centre.

    fit: `crop` is a square as large as the shorter side allows. `squash` resizes all of the picture to a square of
    `squash` pixels without keeping its shape, and cuts one of `size` out of that (ALIGN). `shorter` keeps all of the
    picture and its shape: the shorter side becomes `size`, but the longer at most `longest`, both cut down to a
    multiple of `multiple` (ViLT).
    min_side, of `crop`: side of the smallest random crop as a share of the picture's shorter side. 1 is CLIP's paper,
    whose only augmentation is a random square crop of the resized picture. Below 1 the crops also differ in size.
    randaugment: how many of torchvision's RandAugment's operations, and their strength of 30. Cut-out and inversion,
    which ViLT leaves out, are not among them.
    """

    size: Positive  # pixels of a side
    min_side: Annotated[float, Range(above=0, most=1)] = 1.0
    mean: tuple[Share, Share, Share]  # of red, green, blue
    std: tuple[float, float, float]
    fit: Literal["crop", "squash", "shorter"] = "crop"
    squash: Annotated[int, Range(0)] = 0
    longest: Annotated[int, Range(0)] = 0
    multiple: Positive = 32
    flip: bool = False  # mirror every second picture
    randaugment: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        check_ranges(self)
        if (self.fit == "squash" and self.squash < self.size) or (self.fit == "shorter" and self.longest < self.size):
            raise ConfigError(
                f"pixels.size is {self.size}, squash {self.squash}, longest {self.longest}",
                where="the recipe",
                fix="set squash, with fit: squash, or longest, with fit: shorter, to size or more",
            )

    @property
    def whole(self) -> bool:
        """Whether all of the picture is shown, the right way round, so that boxes stay where they are."""
        return (self.fit == "shorter" or self.squash == self.size) and not self.flip and not self.randaugment[0]


def columns(settings: Settings) -> tuple[str, ...]:
    return ("image",)


def shapes(settings: Settings, metadata: Mapping[str, str]) -> dict[str, int]:
    vocabularies = {"num_classes": "classes", "num_attributes": "attributes"}
    counts = {name: len(json.loads(metadata[key])) for name, key in vocabularies.items() if key in metadata}
    return {"image_size": settings.size} | counts


def load(row: Row, settings: Settings, rng: np.random.Generator | None) -> Pixels:
    """The picture as the settings show it: at random with rng, else as in evaluation. Bicubic, as CLIP's.

    Raises DamagedError, naming the row, where the picture cannot be decoded.
    """
    return prepared(_decoded(row, settings), settings, rng)


def load_unresized(row: Row, settings: Settings, rng: np.random.Generator | None) -> Picture:
    """The picture as it was decoded, and what `load` would show of it, by the same draws. Raises as `load` does."""
    return unresized(_decoded(row, settings), settings, rng)


def _decoded(row: Row, settings: Settings) -> Image.Image:
    image = row.value("image")
    if not image:
        raise row.unusable("the picture is not in the shard: it was linked or lost (shards.pictures), or never came")
    try:
        return opened(image, least_side(settings))
    except UNDECODABLE as error:
        raise row.unusable(f"the picture cannot be decoded: {shown(str(error))}") from error


def decode(image: bytes, settings: Settings, rng: np.random.Generator | None) -> Pixels:
    return prepared(opened(image, least_side(settings)), settings, rng)


def least_side(settings: Settings) -> int:
    """Pixels that are needed of the shorter side."""
    return math.ceil(max(settings.size, settings.squash) / settings.min_side)


def prepared(picture: Image.Image, settings: Settings, rng: np.random.Generator | None) -> Pixels:
    box, shape = framed(*picture.size, settings, rng)
    resized = picture.resize(shape, Image.Resampling.BICUBIC, box=box, reducing_gap=GAP)
    flip, seed = augmentation(settings, rng)
    return Pixels(Normalised(augmented(resized, flip, seed, settings), settings.mean, settings.std))


def unresized(picture: Image.Image, settings: Settings, rng: np.random.Generator | None) -> Picture:
    """What `prepared` resizes, as small as may be: cut to what is shown, and shrunk as Pillow does first."""
    box, (width, height) = framed(*picture.size, settings, rng)
    flip, seed = augmentation(settings, rng)
    seen, box = shrunk(picture, box, (width, height))
    what = Shown((seen.height, seen.width), box, (height, width), flip, seed)
    return Picture(np.asarray(seen), what, Finish(settings.mean, settings.std, settings.randaugment))


def framed(width: int, height: int, settings: Settings, rng: np.random.Generator | None) -> tuple[Box, tuple[int, int]]:
    """(the part of such a picture that is shown, width and height that it gets)."""
    if settings.fit == "crop":
        return crop(width, height, settings.min_side, rng), (settings.size,) * 2
    if settings.fit == "squash":
        return part(width, height, settings.size / settings.squash, rng), (settings.size,) * 2
    return (0.0, 0.0, float(width), float(height)), shorter(width, height, settings)


def shrunk(picture: Image.Image, box: Box, shape: tuple[int, int]) -> tuple[Image.Image, Box]:
    """(the pixels around a box that resizing it to this width and height reads, the box in them).

    A box of four times the shape or more is made smaller by whole factors, as Image.resize does with reducing_gap.
    """
    scales = [(box[axis + 2] - box[axis]) / shape[axis] for axis in (0, 1)]
    factors = [int(scale / GAP) or 1 for scale in scales]
    if max(factors) > 1:
        margins = [1.5 * scale for scale in scales]  # Image._get_safe_box of a bicubic kernel
    else:
        margins = [2 * max(scale, 1) + 1 for scale in scales]
    start = [max(0, int(box[axis] - margins[axis])) for axis in (0, 1)]
    end = [min(picture.size[axis], math.ceil(box[axis + 2] + margins[axis])) for axis in (0, 1)]
    around = (start[0], start[1], end[0], end[1])
    seen = picture.reduce((factors[0], factors[1]), around) if max(factors) > 1 else picture.crop(around)
    x1, y1, x2, y2 = ((box[side] - start[side % 2]) / factors[side % 2] for side in range(4))
    return seen, (x1, y1, x2, y2)


@dataclass(frozen=True)
class Normalised:
    """A picture in RGB, normalised when it is written: 4 bytes a value are touched once, not three times."""

    picture: Image.Image
    mean: tuple[float, float, float]  # of red, green, blue
    std: tuple[float, float, float]

    @property
    def shape(self) -> tuple[int, int, int]:
        return 3, self.picture.height, self.picture.width

    def write(self, out_3SS: Array) -> None:
        for plane_SS, band, mean, std in zip(out_3SS, self.picture.split(), self.mean, self.std, strict=True):
            np.multiply(np.asarray(band), np.float32(1 / (255 * std)), out=plane_SS)
            plane_SS -= np.float32(mean / std)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        values_3SS: Array = np.empty(self.shape, np.float32)
        self.write(values_3SS)
        return values_3SS if dtype is None else values_3SS.astype(dtype)


def augmentation(settings: Settings, rng: np.random.Generator | None) -> tuple[bool, int | None]:
    """(whether a picture is mirrored, the seed of RandAugment's draws). Nothing without rng."""
    if rng is None:
        return False, None
    flip = settings.flip and rng.random() < 0.5
    return flip, int(rng.integers(1 << 31)) if settings.randaugment[0] else None


def augmented(picture: Image.Image, flip: bool, seed: int | None, settings: Settings) -> Image.Image:
    """Mirrored or not, and changed by RandAugment (arXiv:1909.13719), whose draws are torch's."""
    if flip:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if seed is not None:
        from torchvision.transforms import RandAugment  # slow to import, and few recipes change pictures

        with drawing_by(seed):
            picture = RandAugment(*settings.randaugment)(picture)
    return picture


def opened(image: bytes, side: int) -> Image.Image:
    """The picture in RGB, no smaller than `side` if it is not smaller itself.

    A JPEG decoder can shrink while it decodes, which is most of the cost of a large picture. Simplejpeg was the fastest
    (docs/reference/loader.md). What it does not know, such as CMYK, and other formats are Pillow's.
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


def part(width: int, height: int, share: float, rng: np.random.Generator | None) -> Box:
    """x1 y1 x2 y2 with this share of both sides: central, or of random place."""
    across, down = (0.5, 0.5) if rng is None else rng.uniform(size=2)
    left, top = width * (1 - share) * across, height * (1 - share) * down
    return left, top, min(left + width * share, width), min(top + height * share, height)


def shorter(width: int, height: int, settings: Settings) -> tuple[int, int]:
    """Width and height, as ViLT's code has them: scaled, rounded, cut down to a multiple. At least one multiple."""
    scale = min(settings.size / min(width, height), settings.longest / max(width, height))
    sides = [int(side * scale + 0.5) // settings.multiple * settings.multiple for side in (width, height)]
    return max(sides[0], settings.multiple), max(sides[1], settings.multiple)
