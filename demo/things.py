"""The things that scenes are made of: their names, their drawings, and what colour they are or are given."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import yaml
from PIL import Image

Pixels = npt.NDArray[np.uint8]

FOLDER = Path(__file__).parent / "glyphs"
OPAQUE = 128  # a pixel belongs to a thing whose alpha there is at least this

# The shade that a tinted thing has in its dark, middle and light parts. No part of one colour looks like another's:
# pink and red differ in saturation, orange lies between red and yellow, the rest are far apart in hue.
SHADES: dict[str, tuple[tuple[int, int, int], tuple[int, int, int], tuple[int, int, int]]] = {
    "red": ((90, 0, 0), (215, 20, 20), (255, 95, 85)),
    "orange": ((140, 60, 0), (245, 125, 0), (255, 180, 85)),
    "yellow": ((150, 125, 0), (245, 215, 0), (255, 245, 120)),
    "green": ((0, 60, 10), (20, 155, 40), (120, 220, 120)),
    "blue": ((0, 10, 90), (25, 75, 215), (110, 165, 255)),
    "purple": ((45, 0, 75), (125, 35, 175), (190, 125, 230)),
    "pink": ((175, 60, 115), (255, 130, 185), (255, 205, 225)),
    "black": ((0, 0, 0), (30, 30, 32), (75, 75, 80)),
    "white": ((190, 190, 190), (238, 238, 238), (255, 255, 255)),
    "grey": ((80, 80, 80), (130, 130, 130), (175, 175, 175)),
}
COLOURS = tuple(SHADES)


@dataclass(frozen=True)
class ThingClass:
    """One class of things: its drawing's file, its English name and forms, and its names in other languages."""

    file: str
    name: str  # the class, for detector and truth
    emoji: str
    singular: str  # countable phrase: "pair of scissors" where the name is "scissors"
    plural: str
    colour: str | None  # of the drawing as it is, where one colour plainly covers most of it
    words: dict[str, str]  # language -> name, where the emoji package says more than the class means


def _read(path: Path) -> tuple[ThingClass, ...]:
    entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    return tuple(_thing(file, **entry) for file, entry in entries.items())


def _thing(
    file: str,
    name: str,
    emoji: str,
    singular: str | None = None,
    plural: str | None = None,
    colour: str | None = None,
    words: dict[str, str] | None = None,
) -> ThingClass:
    singular = singular or name
    return ThingClass(file, name, emoji, singular, plural or f"{singular}s", colour, words or {})


THINGS = _read(FOLDER / "names.yaml")
CLASSES = tuple(thing.name for thing in THINGS)


@dataclass(frozen=True, eq=False)
class Glyph:
    """A class and its drawing, cropped to what is painted."""

    thing: ThingClass
    pixels: Pixels  # RGBA, [h, w, 4]
    light: Pixels  # [h, w]: lightness, its darkest part 0, its median 128 and its lightest 255


def glyph(thing: ThingClass, pixels: Pixels) -> Glyph:
    """The drawing with its stretched lightness.

    The median lies in the middle, so that dark and light things get mostly the middle shade when they are tinted.
    """
    light = (77 * pixels[..., 0].astype(np.uint32) + 150 * pixels[..., 1] + 29 * pixels[..., 2]) >> 8
    seen = np.sort(light[pixels[..., 3] >= OPAQUE])
    low, middle, high = int(seen[0]), int(seen[len(seen) // 2]), int(seen[-1])
    knots = (min(low, middle - 1), middle, max(high, middle + 1))
    return Glyph(thing, pixels, np.rint(np.interp(light, knots, (0, 128, 255))).astype(np.uint8))


@cache
def glyphs() -> tuple[Glyph, ...]:
    """All drawings, in the order of `CLASSES`."""
    return tuple(glyph(thing, np.asarray(Image.open(FOLDER / thing.file).convert("RGBA"))) for thing in THINGS)


@cache
def _ramp(colour: str) -> Pixels:
    """The colour for each lightness 0 to 255, [256, 3]: straight lines through its three shades."""
    shades = np.array(SHADES[colour], np.float64)
    channels = [np.interp(np.arange(256), (0, 128, 255), shades[:, channel]) for channel in range(3)]
    return np.rint(np.stack(channels, axis=1)).astype(np.uint8)


def tint(drawing: Glyph, colour: str) -> Pixels:
    """The drawing in shades of one colour of `COLOURS`, RGBA [h, w, 4]. Its form and transparency stay."""
    return np.dstack([_ramp(colour)[drawing.light], drawing.pixels[..., 3]])
