"""Arrays of .npy and .npz files, whose pickles are opened as data alone, tensors of torch among it."""

from __future__ import annotations

import csv
import io
import pickle
import zipfile
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from formats.features.record import Array
from pairloom import unpickle

# What a damaged file may raise while it is read.
DAMAGE = (ValueError, KeyError, OSError, TypeError, EOFError, csv.Error, pickle.UnpicklingError, zipfile.BadZipFile)


def read_npz(source: Path | io.BytesIO) -> dict[str, Array]:
    """The arrays of a .npz by their names. Raises one of DAMAGE."""
    whole = io.BytesIO(source.read_bytes()) if isinstance(source, Path) else source  # one read, and no seeks on a disk
    with zipfile.ZipFile(whole) as archive:
        return {name.removesuffix(".npy"): read_npy(archive.read(name)) for name in archive.namelist()}


def read_npy(data: bytes) -> Array:
    """The array of a .npy file; numpy itself would open a pickled one with everything that a pickle may do."""
    wide = data[6:7] != b"\x01"  # since version 2 the header's length has four bytes
    start = 12 if wide else 10
    end = start + int.from_bytes(data[8:start], "little")
    shape, fortran, dtype = _header(data[:end])
    if dtype.hasobject:
        return np.asarray(unpickle.loads(data[end:], TENSORS))
    values = np.frombuffer(data, dtype, offset=end)
    return values.reshape(shape[::-1]).T if fortran else values.reshape(shape)


@lru_cache(maxsize=1024)  # numpy parses it as Python, and pictures with as many regions have equal ones
def _header(head: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """(shape, whether columns come first, type) of what a .npy file begins with."""
    file = io.BytesIO(head)
    reader = npy.read_array_header_1_0 if npy.read_magic(file) == (1, 0) else npy.read_array_header_2_0
    found: tuple[tuple[int, ...], bool, np.dtype[Any]] = reader(file)
    return found


def as_mapping(array: Array, name: str) -> Mapping[str, Any]:
    """The dictionary that numpy keeps as an array of one object. Raises ValueError for anything else."""
    content = array.item() if array.ndim == 0 else None
    if not isinstance(content, Mapping):
        raise ValueError(f"{name} holds no dictionary")
    return content


def _storage(data: bytes) -> Any:
    """The numbers of a tensor, flat, from what torch.save wrote of them on whatever device."""
    import torch  # takes seconds to import, and most files need it not

    try:
        held = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise
    except unpickle.DAMAGED as error:
        raise pickle.UnpicklingError(f"a tensor in it is damaged: {error}") from error
    if not isinstance(held, torch.TypedStorage):
        raise unpickle.RefusedError(f"it holds a {type(held).__name__} for a tensor's numbers")
    return torch.empty(0, dtype=held.dtype).set_(held).numpy()


def _tensor(flat: Array, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any) -> Array:
    """An array of these numbers. Strides count numbers, as torch's do."""
    last = offset + sum((side - 1) * step for side, step in zip(shape, strides, strict=True))
    if 0 in shape:
        return np.zeros(shape, flat.dtype)
    if min((offset, *shape, *strides)) < 0 or last >= len(flat):
        raise pickle.UnpicklingError("a tensor in it lies outside of its numbers")
    steps = [step * flat.itemsize for step in strides]
    return np.lib.stride_tricks.as_strided(flat[offset:], shape, steps).copy()


TENSORS: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch.storage", "_load_from_bytes"): _storage,
}


def read_pickle(data: bytes, known: Mapping[tuple[str, str], Any]) -> Any:
    """What pickle wrote, with tensors as arrays; known: what stands for other classes of it, (module, name)."""
    return unpickle.loads(data, {**TENSORS, **known})


def read_pth(path: Path, known: Mapping[tuple[str, str], Any] | None = None) -> Any:
    """What torch.save wrote: tensors as arrays, in dictionaries and lists. No code of the file is run.

    known: what stands for other classes of it, (module, name). Their attributes are made plain as well.
    """
    import torch

    standing = {f"{module}.{name}": kind for (module, name), kind in (known or {}).items() if module != "torch"}
    safe = [(kind, name) for name, kind in standing.items()]
    try:
        with torch.serialization.safe_globals(safe):  # type: ignore[arg-type]  # pairs of class and name
            mapped = zipfile.is_zipfile(path)  # then only what is looked at is read. Files of torch before 1.6 are none
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
            return _plain(content, tuple(standing.values()))
    except pickle.UnpicklingError:
        raise
    except unpickle.DAMAGED as error:
        raise pickle.UnpicklingError(f"it is damaged: {error}") from error


def _plain(value: Any, known: tuple[type, ...] = ()) -> Any:
    import torch

    if isinstance(value, torch.Tensor):
        return value.float().numpy() if value.dtype == torch.bfloat16 else value.numpy()
    if isinstance(value, Mapping):
        return {key: _plain(item, known) for key, item in value.items()}
    if known and isinstance(value, known):
        value.__dict__.update(_plain(vars(value), known))
        return value
    return [_plain(item, known) for item in value] if isinstance(value, list | tuple) else value


def npz_bytes(arrays: Mapping[str, Any], compressed: bool = False) -> bytes:
    """A .npz file of these arrays. What is no array of numbers is pickled, as numpy does."""
    file = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(file, **arrays)
    return file.getvalue()


def npy_bytes(values: Any) -> bytes:
    """A .npy file of an array, or of one dictionary (pickled, as numpy does)."""
    file = io.BytesIO()
    np.save(file, values if isinstance(values, np.ndarray) else np.array(values, dtype=object))
    return file.getvalue()
