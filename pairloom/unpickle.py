"""Unpickles arrays, numbers, texts and containers, and refuses every other pickle: a pickle can run any program."""

from __future__ import annotations

import io
import pickle
import struct
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

# What numpy puts into a pickle of arrays and numbers, under its old and its new module names, with python 2's pickles
# writing latin-1 texts by way of _codecs.encode. None of these runs code that the pickle chooses.
NUMPY = ("numpy.core.multiarray", "numpy._core.multiarray")
ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    **{(module, "_reconstruct"): None for module in NUMPY},
    **{(module, "scalar"): None for module in NUMPY},
    ("numpy.core.numeric", "_frombuffer"): None,
    ("numpy._core.numeric", "_frombuffer"): None,
    ("_codecs", "encode"): None,
}


# What torch.load raises on a file that was cut off or has other bytes, with weights_only. OSError is apart.
DAMAGED = (
    *(EOFError, LookupError, RuntimeError, TypeError, ValueError, AttributeError, AssertionError, ArithmeticError),
    *(struct.error, pickle.UnpicklingError),
)


class RefusedError(pickle.UnpicklingError):
    """The pickle asks for something else than data."""


class _Unpickler(pickle.Unpickler):
    known: Mapping[tuple[str, str], Callable[..., Any]] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in self.known:
            return self.known[module, name]
        if (module, name) not in ALLOWED:
            raise RefusedError(f"it asks for {module}.{name}")
        kept = ALLOWED[module, name]
        if name == "encode":
            return _encode
        return kept if kept is not None else super().find_class(module.replace("numpy.core", "numpy._core"), name)


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """What a pickle of Python 2 means by _codecs.encode: bytes kept as latin-1 text. No other codec is looked up."""
    if encoding.lower().replace("-", "") != "latin1":
        raise RefusedError(f"it asks for the codec {encoding}")
    return text.encode("latin1")


def loads(data: bytes | memoryview, known: Mapping[tuple[str, str], Callable[..., Any]] | None = None) -> Any:
    """The object in a pickle of plain data. Raises RefusedError or another UnpicklingError, never runs its code.

    known: what stands for further names (module, name). It is called with what the pickle says.
    """
    foreign: tuple[type[BaseException], ...] = (
        *(ValueError, TypeError, EOFError, IndexError, KeyError, AttributeError, ImportError),
        *(MemoryError, OverflowError, UnicodeDecodeError),
    )
    unpickler: Callable[..., _Unpickler] = _Unpickler
    reading = unpickler(io.BytesIO(data), encoding="latin1")
    reading.known = known or {}
    try:
        return reading.load()
    except foreign as error:
        raise pickle.UnpicklingError(f"it is damaged: {error}") from error
