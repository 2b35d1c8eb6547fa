"""Composes scenes of things over a background, with the exact truth about each thing and how they lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from demo.backdrops import backdrop
from demo.things import COLOURS, OPAQUE, Glyph, Pixels, tint

MAX_THINGS = 6
MIN_VISIBLE = 0.35  # a thing that would show less of itself is not put there, so the truth leaves nothing out
SMALL_BELOW, LARGE_FROM = 0.2, 0.4  # longest side of the whole thing as a share of the picture's shorter side
BANDS = ((0.11, 0.19), (0.22, 0.37), (0.42, 0.62))  # drawn sizes of the unturned thing: mostly clear of both limits
MARGIN = 0.02  # of the picture's shorter side: the gap that makes "left of" and "above" clear
COVERS = 0.05  # share of the thing behind that the one in front must cover
SIZES = ("small", "large")
ATTRIBUTES = (*COLOURS, *SIZES)
RELATIONS = ("left of", "right of", "above", "below", "in front of", "behind")


@dataclass(frozen=True)
class Layer:
    """A thing as it is painted: RGBA pixels [h, w, 4] with their left upper corner, which may lie outside."""

    glyph: Glyph
    colour: str | None  # None if no one colour is true of it
    pixels: Pixels
    left: int
    top: int


@dataclass(frozen=True)
class SceneThing:
    """The truth about one thing."""

    name: str
    attributes: tuple[str, ...]  # words of ATTRIBUTES: at most one colour, then at most one size
    box: tuple[float, float, float, float]  # x1 y1 x2 y2 of the visible pixels. Whole numbers, x2 and y2 exclusive
    visible: float  # visible share of its own pixels, those outside of the picture included


@dataclass(frozen=True)
class Relation:
    """`things[subject]` is <predicate> `things[object]`."""

    subject: int
    predicate: str
    object: int


@dataclass(frozen=True)
class Scene:
    """A picture and the whole truth about it. Things are listed back to front."""

    image: Pixels  # RGB [h, w, 3]
    owner: Pixels  # [h, w]: 0 is background, i + 1 the visible pixels of things[i]
    things: tuple[SceneThing, ...]
    relations: tuple[Relation, ...]
    names: tuple[str, ...]  # of all things that could have been drawn


def compose(
    seed: int | np.random.Generator, glyphs: Sequence[Glyph], photographs: tuple[Pixels, ...], size: tuple[int, int]
) -> Scene:
    """A scene of size (width, height) of 1 to 6 of the glyphs over one of the photographs or a drawn background."""
    rng = seed if isinstance(seed, np.random.Generator) else np.random.Generator(np.random.PCG64(seed))
    ground = backdrop(rng, photographs, size)
    layers, owner = arrange(rng, glyphs, size)
    for layer in layers:
        patch = Image.fromarray(layer.pixels)
        ground.paste(patch, (layer.left, layer.top), patch)
    things = tuple(_truth(layer, owner, i + 1) for i, layer in enumerate(layers))
    names = tuple(glyph.thing.name for glyph in glyphs)
    return Scene(np.asarray(ground), owner, things, relations(layers, things, owner), names)


def arrange(rng: np.random.Generator, glyphs: Sequence[Glyph], size: tuple[int, int]) -> tuple[list[Layer], Pixels]:
    """Things with their places, back to front, and which of them owns each pixel. Each shows at least MIN_VISIBLE."""
    layers: list[Layer] = []
    owner = np.zeros(size[::-1], np.uint8)
    own, seen = [0], [owner.size]  # pixels of each thing, all and visible. Entry 0 is the background
    for _ in range(rng.integers(1, MAX_THINGS + 1)):
        glyph, colour, pixels = _drawn(rng, glyphs, layers, size)
        for _ in range(4):  # a crowded scene stays smaller
            left, top = _place(rng, layers, pixels, size)
            layer = Layer(glyph, colour, pixels, left, top)
            if _put(layer, owner, own, seen):
                layers.append(layer)
                break
    return layers, owner


def _drawn(
    rng: np.random.Generator, glyphs: Sequence[Glyph], layers: list[Layer], size: tuple[int, int]
) -> tuple[Glyph, str | None, Pixels]:
    """A glyph recoloured in half of the cases, scaled, mirrored and turned. A sixth repeat the thing before."""
    again = bool(layers) and rng.random() < 1 / 6
    glyph = layers[-1].glyph if again else glyphs[int(rng.integers(len(glyphs)))]
    colour = glyph.thing.colour
    pixels = glyph.pixels
    if rng.random() < 0.5:
        colour = COLOURS[rng.integers(len(COLOURS))]
        pixels = tint(glyph, colour)
    side = rng.uniform(*BANDS[rng.integers(len(BANDS))]) * min(size)
    return glyph, colour, _turned(rng, pixels, side / max(pixels.shape[:2]))


def _turned(rng: np.random.Generator, pixels: Pixels, scale: float) -> Pixels:
    """The drawing scaled, in half of the cases mirrored, in six of ten turned by up to 30 degrees."""
    picture = Image.fromarray(pixels).convert("RGBa")  # premultiplied: no dark fringe, and converted only once
    if rng.random() < 0.5:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    picture = picture.resize(size, Image.Resampling.BILINEAR)
    if rng.random() < 0.6:
        picture = picture.rotate(int(rng.integers(-30, 31)), Image.Resampling.BILINEAR, expand=True)
    return np.asarray(picture.convert("RGBA"))


def _place(rng: np.random.Generator, layers: list[Layer], pixels: Pixels, size: tuple[int, int]) -> tuple[int, int]:
    """A left upper corner: three in ten beside the centre of an earlier thing, up to an eighth outside."""
    width, height = pixels.shape[1], pixels.shape[0]
    if layers and rng.random() < 0.3:
        other = layers[rng.integers(len(layers))]
        reach_x, reach_y = (other.pixels.shape[1] + width) // 3, (other.pixels.shape[0] + height) // 3
        left = other.left + (other.pixels.shape[1] - width) // 2 + int(rng.integers(-reach_x, reach_x + 1))
        top = other.top + (other.pixels.shape[0] - height) // 2 + int(rng.integers(-reach_y, reach_y + 1))
    else:
        left = int(rng.integers(-(width // 8), size[0] - width + width // 8 + 1))
        top = int(rng.integers(-(height // 8), size[1] - height + height // 8 + 1))
    left = min(max(left, -(width // 8)), size[0] - width + width // 8)
    top = min(max(top, -(height // 8)), size[1] - height + height // 8)
    return left, top


def mask_in(layer: Layer, shape: tuple[int, ...]) -> tuple[tuple[slice, slice], npt.NDArray[np.bool_]]:
    """The part of a picture of this shape that the layer's rectangle covers, and its own pixels there."""
    rows = slice(max(layer.top, 0), min(layer.top + layer.pixels.shape[0], shape[0]))
    columns = slice(max(layer.left, 0), min(layer.left + layer.pixels.shape[1], shape[1]))
    alpha = layer.pixels[
        rows.start - layer.top : rows.stop - layer.top, columns.start - layer.left : columns.stop - layer.left, 3
    ]
    return (rows, columns), alpha >= OPAQUE


def _put(layer: Layer, owner: Pixels, own: list[int], seen: list[int]) -> bool:
    """Paint the layer into `owner` unless it, or one that it covers, would show too little."""
    where, mask = mask_in(layer, owner.shape)
    total, inside = int(np.count_nonzero(layer.pixels[..., 3] >= OPAQUE)), int(np.count_nonzero(mask))
    left = [
        one - int(gone) for one, gone in zip(seen, np.bincount(owner[where][mask], minlength=len(own)), strict=True)
    ]
    if total == 0 or inside < MIN_VISIBLE * total:
        return False
    if any(left[i] < MIN_VISIBLE * own[i] for i in range(1, len(own))):
        return False
    owner[where][mask] = len(own)
    own.append(total)
    seen[:] = [*left, inside]
    return True


def _truth(layer: Layer, owner: Pixels, number: int) -> SceneThing:
    (rows, columns), _ = mask_in(layer, owner.shape)
    visible = owner[rows, columns] == number
    ys, xs = np.flatnonzero(visible.any(axis=1)) + rows.start, np.flatnonzero(visible.any(axis=0)) + columns.start
    opaque = layer.pixels[..., 3] >= OPAQUE
    box = (float(xs[0]), float(ys[0]), float(xs[-1] + 1), float(ys[-1] + 1))
    words = [word for word in (layer.colour, _size_word(opaque, min(owner.shape))) if word]
    share = np.count_nonzero(visible) / np.count_nonzero(opaque)
    return SceneThing(layer.glyph.thing.name, tuple(words), box, float(share))


def _size_word(opaque: npt.NDArray[np.bool_], shorter_side: int) -> str | None:
    """small, large or neither, by the longest side of the whole thing, hidden parts included."""
    extent = max(np.ptp(np.flatnonzero(opaque.any(axis=axis))) + 1 for axis in (0, 1)) / shorter_side
    return "small" if extent < SMALL_BELOW else "large" if extent >= LARGE_FROM else None


def relations(layers: Sequence[Layer], things: Sequence[SceneThing], owner: Pixels) -> tuple[Relation, ...]:
    """All relations that hold by a clear margin, by subject, then object."""
    margin = MARGIN * min(owner.shape)
    found = []
    covered = [_covered(layer, owner) for layer in layers]
    for i, one in enumerate(things):
        for j, other in enumerate(things):
            if i == j:
                continue
            words = [*_beside(one.box, other.box, margin), *_depth(covered, i, j)]
            found += [Relation(i, word, j) for word in words]
    return tuple(found)


def _beside(one: tuple[float, ...], other: tuple[float, ...], margin: float) -> list[str]:
    """Where box `one` lies as seen from `other`, along the axis in which their centres are further apart."""
    across = one[0] + one[2] - other[0] - other[2]
    down = one[1] + one[3] - other[1] - other[3]
    if abs(across) >= abs(down):
        return ["left of"] * (one[2] + margin <= other[0]) + ["right of"] * (other[2] + margin <= one[0])
    return ["above"] * (one[3] + margin <= other[1]) + ["below"] * (other[3] + margin <= one[1])


def _covered(layer: Layer, owner: Pixels) -> list[float]:
    """For each owner number, the share of this thing's own pixels where that one is seen."""
    where, mask = mask_in(layer, owner.shape)
    total = np.count_nonzero(layer.pixels[..., 3] >= OPAQUE)
    counts = np.bincount(owner[where][mask], minlength=MAX_THINGS + 1)
    return [float(count / total) for count in counts]


def _depth(covered: list[list[float]], i: int, j: int) -> list[str]:
    """Whether thing i is seen in front of thing j, or behind it."""
    if i > j:
        return ["in front of"] * (covered[j][i + 1] >= COVERS)
    return ["behind"] * (covered[i][j + 1] >= COVERS)
