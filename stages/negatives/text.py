"""Normalise whole columns of captions: compiled for ASCII, which most are, and by words.normalise for the others."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pairloom.compiled import compiled
from stages.negatives.words import normalise

Array = npt.NDArray[Any]


def normalised(texts: pa.Array) -> pa.Array:
    """words.normalise of each text (large_string without nulls)."""
    offsets, data = bytes_of(texts)
    ends, lowered, plain = _fold(offsets, data)
    folded = pa.LargeStringArray.from_buffers(len(texts), pa.py_buffer(ends), pa.py_buffer(lowered))
    others = np.flatnonzero(~plain)
    if len(others) == 0:
        return folded
    cured = [normalise(text) for text in texts.take(pa.array(others)).to_pylist()]
    place = np.arange(len(texts))
    place[others] = len(texts) + np.arange(len(others))
    return pa.concat_arrays([folded, pa.array(cured, pa.large_string())]).take(pa.array(place))


def bytes_of(texts: pa.Array) -> tuple[Array, Array]:
    """(offsets int64 (n + 1,), UTF-8 bytes) of a large_string array without nulls."""
    _, offsets, data = texts.buffers()
    if offsets is None or len(texts) == 0:
        return np.zeros(1, np.int64), np.empty(0, np.uint8)
    found = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    return found, np.frombuffer(data, np.uint8) if data is not None and data.size else np.empty(0, np.uint8)


@compiled
def _fold(offsets: Array, data: Array) -> tuple[Array, Array, Array]:
    """(offsets, bytes, plain): ASCII texts in lower case with single spaces. "" for the others, which are not plain."""
    number = len(offsets) - 1
    ends, plain = np.zeros(number + 1, np.int64), np.ones(number, np.bool_)
    lowered = np.empty(offsets[number] - offsets[0], np.uint8)
    length = 0
    for text in range(number):
        start, gap = length, False
        for at in range(offsets[text], offsets[text + 1]):
            byte = data[at]
            if byte >= 128:
                plain[text], length = False, start
                break
            if byte == 32 or 9 <= byte <= 13 or 28 <= byte <= 31:  # what str.split takes for a space
                gap = True
                continue
            if gap and length > start:
                lowered[length] = 32
                length += 1
            gap = False
            lowered[length] = byte + 32 if 65 <= byte <= 90 else byte
            length += 1
        ends[text + 1] = length
    return ends, lowered[:length], plain
