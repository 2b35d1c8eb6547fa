"""Numbers of many rows: kept in files rather than in memory, and looked at a piece at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
ALL = np.uint64(2**64 - 1)
PIECE = 1 << 18  # rows that are sorted at once


class Column:
    """Values of one type, added to a file and then read as one array that the system may drop from memory."""

    def __init__(self, path: Path, dtype: Any) -> None:
        self._path, self.dtype = path, np.dtype(dtype)
        self._file = path.open("wb")
        self._length = 0
        self._mapped: Array = np.empty(0, self.dtype)

    def __len__(self) -> int:
        return self._length

    def add(self, values: Any) -> None:
        array = np.asarray(values, self.dtype)
        self._length += len(array)
        self._file.write(array.tobytes())

    def array(self) -> Array:
        """All values so far."""
        if len(self._mapped) != self._length:
            self._file.flush()
            self._mapped = np.memmap(self._path, self.dtype, mode="r", shape=(self._length,))
        return self._mapped

    def close(self) -> None:
        """No more is added; the file is removed, and arrays of it stay readable."""
        self._file.close()
        self._path.unlink(missing_ok=True)


def pieces(keys: npt.NDArray[np.uint64], mask: np.uint64 = ALL) -> Iterator[npt.NDArray[np.int64]]:
    """The positions of all keys, about PIECE at a time: ascending, and those of equal keys (of mask) in one piece."""
    if len(keys) <= PIECE:
        yield np.arange(len(keys))
        return
    wide = np.empty(len(keys), np.uint16 if len(keys) > PIECE << 7 else np.uint8)
    bits = np.uint64(64 - 8 * wide.itemsize)
    for start in range(0, len(keys), PIECE):
        part = np.ascontiguousarray(keys[start : start + PIECE]) & mask
        wide[start : start + PIECE] = (
            part * np.uint64(0x9E3779B97F4A7C15)
        ) >> bits  # spread: keys may differ in few bits
    order = np.argsort(wide, kind="stable")  # by radix: linear
    ends = np.cumsum(np.bincount(wide))
    start = 0
    for end in ends.tolist():  # as many groups of equal spread bits as fill a piece
        if end - start >= PIECE or end == len(keys):
            yield np.sort(order[start:end])
            start = end
            if start == len(keys):
                return
