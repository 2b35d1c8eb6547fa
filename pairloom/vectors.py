"""Feature vectors as shards store them: float16, float32, or whole numbers with a scale for each vector."""

from __future__ import annotations

from typing import Literal

import numpy as np

from pairloom.table import Array

Stored = Literal["float16", "float32", "int8"]
NUMPY: dict[str, str] = {"float16": "<f2", "float32": "<f4", "int8": "<i1"}  # name in the settings -> in the metadata


def unfit(vectors_RD: Array, stored: Stored) -> str | None:
    """Why these vectors cannot be stored so, naming the region and its value. None if they can."""
    largest = np.finfo(np.float16 if stored == "float16" else np.float32).max
    with np.errstate(invalid="ignore"):
        good_RD = np.abs(vectors_RD.astype(np.float64)) <= largest  # False for NaN, too
    if good_RD.all():
        return None
    region, place = np.argwhere(~good_RD)[0].tolist()
    value = float(vectors_RD[region, place])
    beyond = f", beyond {stored} (±{largest:g})" if np.isfinite(value) else ""
    return f"region {region} has {value:g} at place {place} of its features{beyond}"


def pack(vectors_RD: Array, stored: Stored) -> tuple[bytes, bytes | None]:
    """(the numbers, the scales of int8 as <f4 or None). The vectors are fit.

    int8: each vector is divided by its largest magnitude / 127 and rounded, so the error of a number is at most half of
    that scale.
    """
    if stored != "int8":
        return np.ascontiguousarray(vectors_RD, NUMPY[stored]).tobytes(), None
    vectors = vectors_RD.astype(np.float32)
    scales_R = (np.abs(vectors).max(axis=1, initial=0) / 127).astype("<f4")
    divisors = np.where(scales_R > 0, scales_R, 1)
    numbers = np.rint(vectors / divisors[:, None]).clip(-127, 127).astype("<i1")
    return numbers.tobytes(), scales_R.tobytes()


def unpack(numbers: bytes, scales: bytes | None, regions: int, dtype: str) -> Array:
    """(R, D) float: what `pack` stored. dtype: of the file's metadata."""
    stored: Array = np.frombuffer(numbers, dtype).reshape(regions, -1)
    if scales is None:
        return stored
    vectors: Array = stored.astype(np.float32) * np.frombuffer(scales, "<f4")[:, None]
    return vectors
