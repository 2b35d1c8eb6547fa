"""A batch on its way to another process: large tensors by their place in shared memory, all else by value.

One pickle builds the batch with its tensors. Another walk through its dataclasses, to put them in afterwards, took the
training process as long as the pickle.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pairloom.table import Array

Place = tuple[int, tuple[int, ...], str]  # offset in the memory, shape, dtype


def packed(content: Any, offset: Callable[[Array], int | None]) -> bytes:
    """The content for `unpacked`. offset: where an array lies in the shared memory, None if it does not."""
    written = io.BytesIO()
    _Packer(written, offset).dump(content)
    return written.getvalue()


def unpacked(parcel: bytes, memory: Array) -> Any:
    """What was packed. Tensors that lie in the shared memory keep `memory`, (bytes,) uint8, alive."""
    return _Unpacker(io.BytesIO(parcel), memory).load()


class _Packer(pickle.Pickler):
    def __init__(self, file: io.BytesIO, offset: Callable[[Array], int | None]) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self._offset = offset

    def persistent_id(self, value: Any) -> Array | Place | None:
        if not isinstance(value, Tensor):
            return None
        array: Array = value.numpy()
        offset = self._offset(array)
        return array if offset is None else (offset, array.shape, array.dtype.str)


class _Unpacker(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, memory: Array) -> None:
        super().__init__(file)
        self._memory = memory

    def persistent_load(self, packed: Array | Place) -> Tensor:
        if isinstance(packed, np.ndarray):
            return torch.from_numpy(packed)
        offset, shape, dtype = packed
        return torch.from_numpy(np.ndarray(shape, dtype, self._memory, offset))
