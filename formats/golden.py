"""Reads regions that the original extraction code wrote, to compare with: BUTD's and LXMERT's TSV, MILVLG's npz.

MILVLG's two modes write different things: `caffe` ids and confidences, `detectron2` probabilities of all classes and
attributes, the attributes' as tensors of torch inside a pickle.
"""

from __future__ import annotations

import base64
import binascii
import csv
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from formats.features.arrays import DAMAGE
from formats.features.arrays import read_npz as read_npz_arrays
from pairloom.errors import InputError

Array = npt.NDArray[Any]

BUTD = ("image_id", "image_w", "image_h", "num_boxes", "boxes", "features")
LXMERT = (
    *("img_id", "img_h", "img_w", "objects_id", "objects_conf", "attrs_id", "attrs_conf"),
    *("num_boxes", "boxes", "features"),
)
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
    arrays = read_npz_arrays(path)
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


READERS = {".tsv": read_tsv, ".npz": read_npz}
