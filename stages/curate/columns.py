"""Numbers of many rows: kept in files rather than in memory, and looked at a piece at a time."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Positions = npt.NDArray[np.int64]
ALL = np.uint64(2**64 - 1)
GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: spreads keys that differ in few bits
PIECE = 1 << 18  # rows that are in memory at once
MOST_PARTS = 1 << 16


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
        array = np.ascontiguousarray(values, self.dtype)
        self._length += len(array)
        self._file.write(array.tobytes())

    def array(self) -> Array:
        """All values so far."""
        if len(self._mapped) != self._length:
            self._file.flush()
            self._mapped = np.memmap(self._path, self.dtype, mode="r", shape=(self._length,))
        return self._mapped

    def close(self) -> None:
        """No more is added. The file is removed, and arrays of it stay readable."""
        self._file.close()
        self._path.unlink(missing_ok=True)


def chunks(length: int) -> Iterator[slice]:
    """All places, PIECE at a time."""
    return (slice(start, min(start + PIECE, length)) for start in range(0, length, PIECE))


def parted(
    columns: Sequence[Array], part_of: Callable[[slice], Array], parts: int, folder: Path
) -> Iterator[list[Array]]:
    """The rows of each part in order: their places, then what the columns have there. They lie in a file meanwhile.

    columns: of one length. part_of: of some places the numbers of their parts, below `parts`.
    """
    length = len(columns[0])
    counts = np.zeros(parts, np.int64)
    for places in chunks(length):
        counts += np.bincount(part_of(places), minlength=parts)
    kinds = [np.dtype(np.int64), *(column.dtype for column in columns)]
    begins = np.cumsum([0, *(length * kind.itemsize for kind in kinds)]).tolist()
    with tempfile.TemporaryFile(dir=folder) as file:
        os.posix_fallocate(file.fileno(), 0, max(begins[-1], 1))  # or a full disk would kill the process
        dealt = [np.memmap(file, kind, "r+", begin, length) for kind, begin in zip(kinds, begins[:-1], strict=True)]
        ends = np.cumsum(counts)
        _deal(dealt, columns, part_of, ends - counts)
        for start, end in zip((ends - counts).tolist(), ends.tolist(), strict=True):
            yield [np.array(column[start:end]) for column in dealt]


def _deal(
    dealt: Sequence[Array], columns: Sequence[Array], part_of: Callable[[slice], Array], begins: Positions
) -> None:
    """Write each row behind those of its part; begins: where the parts begin, as they are filled.

    dealt: the rows' places, then the columns.
    """
    for places in chunks(len(columns[0])):
        numbers = part_of(places)
        order = np.argsort(numbers, kind="stable")  # by radix: linear
        counts = np.bincount(numbers, minlength=len(begins))
        targets = np.repeat(begins - np.cumsum(counts) + counts, counts) + np.arange(len(order))
        dealt[0][targets] = places.start + order
        for to, column in zip(dealt[1:], columns, strict=True):
            to[targets] = column[places][order]
        begins += counts


def pieces(keys: Array, folder: Path, mask: np.uint64 = ALL, beside: Sequence[Array] = ()) -> Iterator[list[Array]]:
    """All rows, about PIECE at a time: their places, which ascend, the keys there, and what the columns beside have.

    keys: uint64, of which the bits of `mask` count, or ids of 16 bytes. Equal ones are in one piece.
    """
    if len(keys) <= PIECE:
        yield [np.arange(len(keys)), np.array(keys), *map(np.array, beside)]
        return
    bits = min((len(keys) // PIECE).bit_length(), MOST_PARTS.bit_length() - 1)
    kind = np.uint8 if bits <= 8 else np.uint16

    def part_of(places: slice) -> Array:
        return (((halves(keys[places]) & mask) * GOLDEN) >> np.uint64(64 - bits)).astype(kind)

    yield from parted([keys, *beside], part_of, 1 << bits, folder)


def halves(keys: Array) -> npt.NDArray[np.uint64]:
    """Of ids of 16 bytes the first eight. Numbers are as they are."""
    if keys.dtype.kind != "V":
        return keys.astype(np.uint64, copy=False)
    return np.ascontiguousarray(keys).view("<u8").reshape(-1, 2)[:, 0]
