"""Reads regions that the original extraction code wrote, to compare with: BUTD's and LXMERT's TSV, MILVLG's npz.

MILVLG's two modes write different things: `caffe` ids and confidences, `detectron2` probabilities of all classes and
attributes, the attributes' as tensors of torch inside a pickle.
"""

from __future__ import annotations

import base64
import binascii
import csv
import io
import pickle
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from pairloom import unpickle
from pairloom.errors import InputError

Array = npt.NDArray[Any]

BUTD = ("image_id", "image_w", "image_h", "num_boxes", "boxes", "features")
LXMERT = (
    *("img_id", "img_h", "img_w", "objects_id", "objects_conf", "attrs_id", "attrs_conf"),
    *("num_boxes", "boxes", "features"),
)
DAMAGE = (ValueError, KeyError, OSError, TypeError, csv.Error, pickle.UnpicklingError, zipfile.BadZipFile)
COLUMNS = {"objects_id": "<i8", "objects_conf": "<f4", "attrs_id": "<i8", "attrs_conf": "<f4"}


@dataclass(frozen=True)
class Golden:
    """One image's regions as the original code wrote them; ids are without background, None where it has none."""

    image_id: str
    width: int
    height: int
    boxes: Array  # (N, 4), pixels of the stored picture
    features: Array  # (N, D)
    columns: Mapping[str, Array]  # of COLUMNS, those that are in the file


def read(folder: Path) -> Iterator[Golden]:
    """All images in the .tsv and .npz files of a folder, or of one file. Raises InputError for a damaged one."""
    files = [folder] if folder.is_file() else sorted(each for each in folder.glob("*") if each.suffix in READERS)
    if not files:
        raise InputError(
            "there are no regions to compare with",
            where=str(folder),
            fix="name a folder of .tsv files (BUTD, LXMERT) or .npz files (MILVLG) that the original code wrote",
        )
    for file in files:
        try:
            yield from READERS[file.suffix](file)
        except DAMAGE as error:
            raise InputError(f"it cannot be read: {error}", where=str(file), fix="write it again") from error


def read_tsv(path: Path) -> Iterator[Golden]:
    """BUTD's six columns or LXMERT's ten; which, the number of columns says."""
    csv.field_size_limit(sys.maxsize)
    with path.open(newline="", encoding="utf-8") as file:
        for number, row in enumerate(csv.reader(file, delimiter="\t"), start=1):
            names = {len(BUTD): BUTD, len(LXMERT): LXMERT}.get(len(row))
            if names is None:
                raise ValueError(f"line {number} has {len(row)} columns, neither {len(BUTD)} nor {len(LXMERT)}")
            if row[0] in ("image_id", "img_id"):  # a heading, which some scripts wrote
                continue
            yield _from_row(dict(zip(names, row, strict=True)), number)


def _from_row(row: dict[str, str], number: int) -> Golden:
    count = int(row["num_boxes"])
    boxes, features = (_floats(row[name], number) for name in ("boxes", "features"))
    return Golden(
        image_id=row.get("image_id") or row["img_id"],
        width=int(row.get("image_w") or row["img_w"]),
        height=int(row.get("image_h") or row["img_h"]),
        boxes=boxes.reshape(count, 4),
        features=features.reshape(count, -1),
        columns={name: np.frombuffer(_bytes(row[name], number), kind) for name, kind in COLUMNS.items() if name in row},
    )


def _floats(text: str, number: int) -> Array:
    return np.frombuffer(_bytes(text, number), "<f4")


def _bytes(text: str, number: int) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"line {number} does not hold base64: {error}") from error


def read_npz(path: Path) -> Iterator[Golden]:
    """MILVLG's: x, bbox, and a dictionary `info`, whose pickle is opened as data alone."""
    with zipfile.ZipFile(path) as archive:
        arrays = {name.removesuffix(".npy"): _npy(archive.read(name)) for name in archive.namelist()}
    info = arrays["info"].item() if "info" in arrays else {}
    size = {name: int(info.get(name, arrays.get(name, 0))) for name in ("image_w", "image_h")}
    yield Golden(
        image_id=str(info.get("image_id", path.stem)),
        width=size["image_w"],
        height=size["image_h"],
        boxes=np.asarray(arrays["bbox"], np.float32).reshape(-1, 4),
        features=np.asarray(arrays["x"], np.float32),
        columns=_columns(info),
    )


def _columns(info: Mapping[str, Any]) -> dict[str, Array]:
    found = {name: info[name] for name in COLUMNS if name in info}
    if "objects" in info:  # the mode detectron2: classes by number, and the probabilities of all
        found["objects_id"] = info["objects"]
        found["objects_conf"] = info["cls_prob"][np.arange(len(info["objects"])), info["objects"]]
    if "attrs_id" in found and np.ndim(found["attrs_id"]) == 2:  # under this name it has the attributes' probabilities
        found |= {"attrs_id": found["attrs_id"].argmax(axis=1), "attrs_conf": found["attrs_id"].max(axis=1)}
    return {name: np.asarray(found[name], kind) for name, kind in COLUMNS.items() if name in found}


def _npy(data: bytes) -> Array:
    """An array of a .npy file; numpy itself would open a pickled one with everything that a pickle may do."""
    file = io.BytesIO(data)
    version = npy.read_magic(file)
    reader = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = reader(file)
    if dtype.hasobject:
        return np.asarray(unpickle.loads(file.read(), TENSORS))
    values = np.frombuffer(file.read(), dtype)
    return values.reshape(shape[::-1]).T if fortran else values.reshape(shape)


def _storage(data: bytes) -> Any:
    """The numbers of a tensor, flat, from what torch.save wrote of them on whatever device."""
    import torch  # takes seconds to import, and most golden files need it not

    try:
        held = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError) as error:
        raise pickle.UnpicklingError(f"a tensor in it is damaged: {error}") from error
    if not isinstance(held, torch.TypedStorage):
        raise unpickle.RefusedError(f"it holds a {type(held).__name__} for a tensor's numbers")
    return torch.empty(0, dtype=held.dtype).set_(held).numpy()


def _tensor(flat: Array, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any) -> Array:
    """An array of these numbers; strides in numbers, as torch has them."""
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
READERS = {".tsv": read_tsv, ".npz": read_npz}
