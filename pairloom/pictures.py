"""What every room must agree on about stored pictures: what is damage, and how colours are compared."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO

import numpy as np
import numpy.typing as npt
import simplejpeg  # type: ignore[import-untyped]
from PIL import Image

# All that Pillow's decoders raise on damaged files. UnidentifiedImageError is an OSError.
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
SIDE = 8  # cells a side
WIDTH = SIDE * SIDE * 2
Colours = npt.NDArray[np.uint8]  # (WIDTH,): Cb and Cr of each cell, row by row


def colours(image: bytes) -> Colours | None:
    """Mean Cb and Cr of 8 × 8 cells, 0 to 255, 128 where there is no colour. None for what is no picture."""
    try:
        opened = Image.open(BytesIO(image))
        opened.draft("RGB", (4 * SIDE, 4 * SIDE))  # of a JPEG, as few of its frequencies as are needed
        small = opened.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX)
    except (*DAMAGE, Image.DecompressionBombError):
        return None
    return np.asarray(small.convert("YCbCr"))[..., 1:].ravel()


def jpeg_damage(image: bytes) -> str | None:
    """What is wrong with a JPEG's data, which Pillow shows in grey where it is broken. None if it is whole.

    It is decoded at an eighth of its size, which costs a third of a whole decoding. All of the data is read.
    """
    try:
        simplejpeg.decode_jpeg(image, "RGB", min_height=1, min_width=1, strict=True)
    except ValueError as error:
        return str(error)
    return None
