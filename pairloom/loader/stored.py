"""Vectors that still lie in the shard, until they are copied to their place in a batch: once, and only the prefix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pairloom.loader.reading import Heavy
from pairloom.table import Array


@dataclass(slots=True)  # not frozen: one is made for each row, which takes a fifth of the time
class Stored:
    """The first `rows` vectors of one image, each of `width` numbers; numpy sees it as an array that is read on use."""

    heavy: Heavy
    row: int  # in the shard
    rows: int
    width: int
    stored: np.dtype[Any]
    scales: Array | None = None  # of each vector, where whole numbers are stored

    @property
    def shape(self) -> tuple[int, int]:
        return self.rows, self.width

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype("<f2") if self.scales is not None else self.stored

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, key: Any) -> Any:
        """A prefix stays in the shard. Any other part is read."""
        if isinstance(key, slice) and key.start in (None, 0) and key.step in (None, 1):
            return replace(self, rows=len(range(*key.indices(self.rows))))
        return np.asarray(self)[key]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        out: Array = np.empty(self.shape, dtype or self.dtype)
        self.read_into(out)
        return out

    def read_into(self, out: Array) -> None:
        """Fill `out`, C-contiguous (rows, width) of any float dtype. Raises DamagedError."""
        if not self.rows or not self.width:
            return
        if self.scales is None and out.dtype == self.stored:
            self.heavy.read(self.row, out.reshape(-1).view(np.uint8).data)
            return
        numbers: Array = np.empty(self.shape, self.stored)
        self.heavy.read(self.row, numbers.reshape(-1).view(np.uint8).data)
        if self.scales is None:
            out[...] = numbers
        else:
            np.multiply(numbers, self.scales[: self.rows, None], out=out, casting="unsafe")


def read_rows(rows: Sequence[Stored | Array], padded: Array) -> None:
    """Fill the beginning of each of the rows of `padded`, which is C-contiguous. Raises DamagedError."""
    whole, stride = padded.reshape(-1).view(np.uint8).data, padded[0].nbytes
    for number, row in enumerate(rows):
        if not isinstance(row, Stored):
            padded[number, : len(row)] = row
        elif row.scales is not None or row.stored != padded.dtype:
            row.read_into(padded[number, : row.rows])
        elif row.rows:
            start = number * stride
            row.heavy.read(row.row, whole[start : start + row.rows * row.width * padded.itemsize])
