"""The 64-bit perceptual hash: bit for bit that of the ImageHash package's `phash`, in exact integer arithmetic."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

SIDE = 32
KEPT = 8
SCALE = 1 << 20  # of the cosines. 255 · 32² · 2^40 stays below 2^63


def _cosines() -> npt.NDArray[np.int64]:
    """The first 8 rows of the 32-point DCT-II as integers, so that sums have no rounding and bits no machine."""
    frequency, position = np.ogrid[:KEPT, :SIDE]
    cosines: npt.NDArray[np.int64] = np.rint(
        SCALE * np.cos(np.pi * frequency * (2 * position + 1) / (2 * SIDE))
    ).astype(np.int64)
    return cosines


COSINES = _cosines()


def phash(image: Image.Image) -> int:
    """Bits of the 8 × 8 lowest DCT frequencies of the 32 × 32 grey picture that exceed their median, row by row.

    The first frequency is the highest bit. Like ImageHash 4.3 with its defaults (`int(str(phash(image)), 16)`),
    which may differ only where two frequencies are equal but for floating-point noise.
    """
    grey = np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.LANCZOS), dtype=np.int64)
    low = (COSINES @ grey @ COSINES.T).ravel()
    middle = np.partition(low, (31, 32))[31:33].sum()  # twice the median
    return int.from_bytes(np.packbits(2 * low > middle).tobytes(), "big")
