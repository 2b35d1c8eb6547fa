"""Memory for the large tensors of batches, used again when a batch is gone: fresh pages cost as much as the copy."""

from __future__ import annotations

import math
import mmap
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from pairloom.table import Array

Empty = Callable[[tuple[int, ...], Any], Array]  # (shape, dtype) -> an array of any content
SMALL = 64 << 10  # bytes below which numpy's own memory is as good


class Buffers:
    """Arrays on recycled memory. A block is free again when the last array, or tensor, on it is gone."""

    def __init__(self, most_free: int = 8) -> None:
        self._free: list[mmap.mmap] = []
        self._most_free = most_free

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Array:
        size = math.prod(shape) * np.dtype(dtype).itemsize
        if size < SMALL:
            return np.empty(shape, dtype)
        block = self._take(size)
        whole = np.frombuffer(block, np.uint8)
        weakref.finalize(whole, self._give_back, block)
        array: Array = whole[:size].view(dtype).reshape(shape)
        return array

    def _take(self, size: int) -> mmap.mmap:
        """The smallest free block that is large enough, unless it is far too large."""
        fitting = [block for block in self._free if size <= len(block) <= 4 * size]
        if not fitting:
            return mmap.mmap(-1, _rounded(size))
        best = min(fitting, key=len)
        self._free = [block for block in self._free if block is not best]
        return best

    def _give_back(self, block: mmap.mmap) -> None:
        if len(self._free) < self._most_free:
            self._free.append(block)


def _rounded(size: int) -> int:
    """A quarter more, in whole pages, so that batches of slightly different size share blocks."""
    return -(-(size + size // 4) // mmap.PAGESIZE) * mmap.PAGESIZE


class Arena:
    """Arrays one after the other in one piece of shared memory: what a worker builds a batch in."""

    def __init__(self) -> None:
        self._memory: Array | None = None
        self.used = 0  # bytes asked for, whether there was room or not

    def begin(self, memory: mmap.mmap | None) -> None:
        self._memory = None if memory is None else np.frombuffer(memory, np.uint8)
        self.used = 0

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Array:
        size = math.prod(shape) * np.dtype(dtype).itemsize
        start, self.used = self.used, self.used + -(-size // 64) * 64  # each on a cache line of its own
        if self._memory is None or self.used > len(self._memory):
            return np.empty(shape, dtype)
        array: Array = self._memory[start : start + size].view(dtype).reshape(shape)
        return array

    def offset(self, array: Array) -> int | None:
        """Where an array lies in the memory. None if it does not."""
        if self._memory is None or not array.flags.c_contiguous or not array.nbytes:
            return None
        start = array.__array_interface__["data"][0] - self._memory.__array_interface__["data"][0]
        return start if 0 <= start <= len(self._memory) - array.nbytes else None
