"""ViLBERT's LMDB (facebookresearch/vilbert-multi-task, script/convert_to_lmdb.py), also VOLTA's: an entry a picture.

The value is a pickle of a dictionary: image_id, image_h, image_w, num_boxes, boxes, features. VOLTA's has img_id,
img_h, img_w, classes and attributes. Arrays are arrays, or base64 of <f4 in vilbert_beta's and VOLTA's own:
nothing in the file says which, so each value is looked at. `keys` is a pickled list of all keys.
num_boxes may be less than the rows that are stored. Readers count the rows, and so do we.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from formats.features import arrays
from formats.features.databases import Database, absent, entries, found, value_of
from formats.features.lines import encoded, numbers
from formats.features.record import Array, Bad, BrokenError, Record, Vocabularies, bad_of, best_class, matrix, vector
from pairloom import unpickle

NEEDS = ("width",)
STORED = "<f4"
KEYS = b"keys"
IDS = {"class_ids": ("objects_id", "obj_id"), "attribute_ids": ("attrs_id", "attr_id")}
SCORES = {"class_scores": ("objects_conf", "obj_conf"), "attribute_scores": ("attrs_conf", "attr_conf")}


def read(path: Path, floats: str = "<f4") -> Iterator[Record | Bad]:
    """The entries of a database, or of all below a folder."""
    for database in found(path):
        for name, value in entries(database, KEYS):
            key = name.decode("utf-8", errors="backslashreplace")
            try:
                yield record_of(unpickle.loads(value), key, floats)
            except arrays.DAMAGE as error:
                yield bad_of(error, key, str(database))
        listed = unpickle.loads(value_of(database, KEYS) or pickle.dumps([]))
        for name in absent(database, (each if isinstance(each, bytes) else str(each).encode() for each in listed)):
            key = name.decode("utf-8", errors="backslashreplace")
            yield Bad(key, str(database), "no-features", "the database's list of keys has it, the database has not")


def record_of(item: Any, key: str, floats: str) -> Record:
    """A picture of such a dictionary. Raises BrokenError or KeyError where it is not as above."""
    if not isinstance(item, Mapping):
        raise BrokenError(f"it holds a {type(item).__name__}, not a dictionary")
    sizes = [item[f"image_{side}"] if f"image_{side}" in item else item[f"img_{side}"] for side in "wh"]
    boxes = _array(item["boxes"], "boxes", floats, None, 4)
    count = len(boxes)
    probs = _array(item["cls_prob"], "cls_prob", floats, count) if "cls_prob" in item else None
    fields: dict[str, Any] = {}
    if probs is not None:
        fields["class_ids"], fields["class_scores"] = best_class(probs)
    for names, dtype in ((IDS, "<i8"), (SCORES, floats)):
        for field, spellings in names.items():
            name = next((each for each in spellings if each in item), None)
            if name:
                fields[field] = _column(item[name], name, dtype, count)
    return Record(
        key=key,
        width=int(sizes[0]),
        height=int(sizes[1]),
        boxes=boxes,
        features=_array(item["features"], "features", floats, count),
        probs=probs,
        **fields,
    )


def _array(value: Any, name: str, floats: str, rows: int | None, columns: int | None = None) -> Array:
    """(rows, columns) of an array or of base64. Boxes, whose rows are counted, have four numbers each."""
    if not isinstance(value, str | bytes):
        return matrix(value, len(value) if rows is None else rows, columns, name)
    cell = value.encode() if isinstance(value, str) else value
    if rows is None:
        flat = numbers(cell, name, floats, 1)
        if flat.size % 4:
            raise BrokenError(f"{name} has {flat.size} numbers, not four each")
        return flat.reshape(-1, 4)
    return numbers(cell, name, floats, rows, columns)


def _column(value: Any, name: str, dtype: str, rows: int) -> Array:
    if isinstance(value, str | bytes):
        return numbers(value.encode() if isinstance(value, str) else value, name, dtype, rows, 0)
    return vector(value, rows, name)


def entry(record: Record, words: Vocabularies, as_base64: bool = False) -> tuple[str, bytes]:
    """(key, value) of a picture, with classes, attributes and probabilities where they are known."""
    kinds: dict[str, str] = {"boxes": "<f4", "features": "<f4", "probs": "<f4"}
    kinds |= {"class_ids": "<i8", "class_scores": "<f4", "attribute_ids": "<i8", "attribute_scores": "<f4"}
    called = {"probs": "cls_prob"} | {field: names[0] for field, names in (IDS | SCORES).items()}
    item: dict[str, Any] = {
        "image_id": record.key,
        "image_h": record.height,
        "image_w": record.width,
        "num_boxes": len(record.boxes),
    }
    for field, dtype in kinds.items():
        values = getattr(record, field)
        if values is not None:
            plain = np.ascontiguousarray(values, dtype)
            item[called.get(field, field)] = encoded(plain, dtype) if as_base64 else plain
    return record.key, pickle.dumps(item, protocol=4)


class Writer:
    """FOLDER/features.lmdb."""

    def __init__(self, folder: Path, words: Vocabularies, state: Mapping[str, Any]) -> None:
        self._database = Database(folder / "features.lmdb", state)

    def add(self, entry: tuple[str, bytes]) -> None:
        self._database.put(*entry)

    def flush(self) -> dict[str, Any]:
        return self._database.flush()

    def close(self) -> None:
        self._database.close(KEYS, pickle.dumps([key.encode() for key, _ in self._database.notes()], protocol=4))
