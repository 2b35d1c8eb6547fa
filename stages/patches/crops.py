"""Which pixels each crop has, and the vectors of one image: all its crops go through the network, and nothing else.

S pixels of a side of a crop, N crops, D width of a vector.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from pairloom import vectors
from pairloom.layout import LEVELS
from pairloom.table import Array
from stages.patches.settings import Config, Tools
from stages.regions.pictures import decode

FOURTH = slice(sum(LEVELS[:3]), sum(LEVELS[:4]))
TURNS = (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270)  # to the left
Box = tuple[int, int, int, int]  # x1 y1 x2 y2, pixels


@dataclass(frozen=True)
class Cannot:
    """Why there are no crops of an image. `reason` is a word of schemas.quarantine.REASONS."""

    reason: str
    detail: str


def patches_of(encoded: bytes, boxes_R4: Array, tools: Tools) -> dict[str, Array] | Cannot:
    """The columns of one image. boxes: of its regions, best first."""
    try:
        picture = decode(encoded)
    except Image.DecompressionBombError as error:
        return Cannot("pixel-limit", str(error))
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow's decoders raise on damaged files
        return Cannot("damaged-image", str(error))
    config, needed = tools.config, max(tools.config.grid, len(LEVELS) if tools.config.pyramid else 1)
    if min(picture.size) < needed:
        return Cannot("image-size", f"{picture.width} by {picture.height} pixels cannot be cut {needed} by {needed}")
    return _vectors(picture, boxes_R4, config, tools)


def _vectors(picture: Image.Image, boxes_R4: Array, config: Config, tools: Tools) -> dict[str, Array] | Cannot:
    whole = (0, 0, *picture.size)
    cells = cut(whole, config.grid)
    pieces: list[Box] = []
    if config.pyramid:
        box = foreground(boxes_R4, picture.size, config.min_share) if config.foreground == "region" else whole
        pieces = [piece for side in range(1, len(LEVELS) + 1) for piece in cut(box, side)]
    crops = [crop(picture, piece, config.size) for piece in (*cells, *pieces)]
    first = crops[len(cells) : len(cells) + bool(pieces)]
    fourth = crops[len(cells) :][FOURTH]
    shown = [*crops, *(one.transpose(turn) for one in first for turn in TURNS), *map(grey, fourth)]
    vectors_ND = tools.network.vectors([np.asarray(one) for one in shown], config.batch)
    if (wrong := vectors.unfit(vectors_ND, "float16")) is not None:
        return Cannot("bad-value", wrong.replace("region", "crop", 1))
    ends = np.cumsum([len(cells), len(pieces), len(first) * len(TURNS)])
    grid, pyramid, turned, greys = np.split(vectors_ND, ends)
    columns = {
        "patch_boxes": np.array(cells, np.float32),
        "patch_features": grid,
        "pyramid_boxes": np.array(pieces, np.float32),
        "pyramid_features": pyramid,
        "pyramid_turned": turned,
        "pyramid_grey": greys,
    }
    return {name: values for name, values in columns.items() if len(values)}


def cut(box: Box, side: int) -> list[Box]:
    """The box in side × side cells, row by row, of whole pixels. Cells differ by one pixel where it does not go evenly.

    FashionBERT's script makes all cells equal and drops what remains at the right and below.
    """
    x1, y1, x2, y2 = box
    xs = [x1 + (x2 - x1) * step // side for step in range(side + 1)] if side else []
    ys = [y1 + (y2 - y1) * step // side for step in range(side + 1)] if side else []
    return [(xs[i], ys[j], xs[i + 1], ys[j + 1]) for j in range(side) for i in range(side)]


def foreground(boxes_R4: Array, size: tuple[int, int], min_share: float) -> Box:
    """The best region that has at least this share of the image, and room for five pieces a side, else all of it.

    Kaleido-BERT takes the box of what a saliency network finds. The paper names several, none of which comes with us.
    """
    width, height = size
    for box in boxes_R4:
        x1, y1 = (max(int(np.floor(value)), 0) for value in box[:2])
        x2, y2 = min(int(np.ceil(box[2])), width), min(int(np.ceil(box[3])), height)
        if min(x2 - x1, y2 - y1) >= len(LEVELS) and (x2 - x1) * (y2 - y1) >= min_share * width * height:
            return x1, y1, x2, y2
    return 0, 0, width, height


def crop(picture: Image.Image, box: Box, size: int) -> Image.Image:
    """These pixels of an RGB picture, resized to a square (the authors enlarge cells of 32 pixels to 224)."""
    # not resize(box=…), which looks beyond the box at its edges: a neighbour's pixels would be in the crop
    return picture.crop(box).resize((size, size), Image.Resampling.BILINEAR)


def grey(one: Image.Image) -> Image.Image:
    """Without colour, but still of three channels."""
    return one.convert("L").convert("RGB")
