"""What lies behind the things of a scene: crops of photographs that show none of them, and drawn patterns."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from demo.things import Pixels


def _package(name: str) -> Path:
    """Where a package lies. Importing scikit-learn for that would take seconds."""
    found = find_spec(name)
    if found is None or found.origin is None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)  # as an import would: its extra is the cure
    return Path(found.origin).parent


PACKAGES = {"skimage": _package("skimage") / "data", "sklearn": _package("sklearn") / "datasets/images"}
LONGEST = 640  # pixels. Larger photographs are shrunk once, when they are loaded

# Photographs that show none of our classes, in two lists without a common member: what the starter detector has seen
# behind things is never behind them in the sample. All are CC0, public domain or without known copyright restrictions.
TRAINING = ("skimage/grass.png", "skimage/gravel.png", "skimage/ihc.png", "skimage/coins.png", "skimage/text.png")
SAMPLE = ("skimage/brick.png", "skimage/hubble_deep_field.jpg", "skimage/cell.png", "skimage/retina.jpg")


def photograph(name: str) -> Path:
    """Where the package `skimage` or `sklearn` keeps a photograph named `package/file`."""
    package, file = name.split("/")
    return PACKAGES[package] / file


@cache
def backgrounds(names: tuple[str, ...]) -> tuple[Pixels, ...]:
    """Installed photographs as RGB, uint8 [h, w, 3], at most `LONGEST` pixels long."""
    pictures = [Image.open(photograph(name)).convert("RGB") for name in names]
    for picture in pictures:
        picture.thumbnail((LONGEST, LONGEST), Image.Resampling.BOX)
    return tuple(np.asarray(picture) for picture in pictures)


def backdrop(rng: np.random.Generator, photographs: tuple[Pixels, ...], size: tuple[int, int]) -> Image.Image:
    """A background of size (width, height): a photograph in two of three scenes, where there are any, or drawn."""
    if photographs and rng.random() < 0.65:
        return _crop(rng, photographs[rng.integers(len(photographs))], size)
    draw = (_gradient, _stripes, _noise, _shapes)[rng.integers(4)]
    return draw(rng, size)


def _colour(rng: np.random.Generator) -> tuple[int, int, int]:
    red, green, blue = (int(value) for value in rng.integers(0, 256, 3))
    return red, green, blue


def _crop(rng: np.random.Generator, photo: Pixels, size: tuple[int, int]) -> Image.Image:
    """A part of the photograph in the picture's shape, perhaps mirrored, coloured or blurred."""
    height, width = photo.shape[:2]
    scale = min(width / size[0], height / size[1]) * rng.uniform(0.4, 1.0)
    crop_width, crop_height = max(1, int(size[0] * scale)), max(1, int(size[1] * scale))
    left, top = rng.integers(0, width - crop_width + 1), rng.integers(0, height - crop_height + 1)
    part = photo[top : top + crop_height, left : left + crop_width]
    picture = Image.fromarray(part).resize(size, Image.Resampling.BILINEAR)
    if rng.random() < 0.5:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if rng.random() < 0.5:
        picture = Image.blend(picture, Image.new("RGB", size, _colour(rng)), rng.uniform(0.1, 0.5))
    if rng.random() < 0.3:
        picture = picture.filter(ImageFilter.BoxBlur(int(rng.integers(1, 5))))
    return picture


def _gradient(rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    corners = Image.fromarray(rng.integers(0, 256, (2, 2, 3), np.uint8))
    return corners.resize(size, Image.Resampling.BICUBIC)


def _stripes(rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """Two colours in bands along one of four directions."""
    across, down = ((1, 0), (0, 1), (1, 1), (1, -1))[rng.integers(4)]
    period = int(rng.integers(6, 60))
    place = across * np.arange(size[0])[None, :] + down * np.arange(size[1])[:, None]
    pair = np.array([_colour(rng), _colour(rng)], np.uint8)
    return Image.fromarray(pair[place // period % 2])


def _noise(rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """Soft spots of random colour, each 2 to 32 pixels wide."""
    spot = int(rng.integers(2, 33))
    spots = rng.integers(0, 256, (size[1] // spot + 2, size[0] // spot + 2, 3), np.uint8)
    mixed = Image.blend(
        Image.fromarray(spots), Image.new("RGB", spots.shape[1::-1], _colour(rng)), rng.uniform(0.2, 0.8)
    )
    return mixed.resize(size, Image.Resampling.BILINEAR)


def _shapes(rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """Plain rectangles and ellipses on a plain ground."""
    picture = Image.new("RGB", size, _colour(rng))
    pen = ImageDraw.Draw(picture)
    for _ in range(rng.integers(3, 12)):
        left, top = (int(rng.integers(-side // 8, side)) for side in size)
        width, height = (int(rng.integers(side // 16, side // 2)) for side in size)
        shape = pen.ellipse if rng.random() < 0.5 else pen.rectangle
        shape((left, top, left + width, top + height), fill=_colour(rng))
    return picture
