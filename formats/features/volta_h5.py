"""VOLTA's HDF5 (e-bug/volta, features_extraction): a group a picture, named by its key.

boxes f4 [n, 4] in pixels, features f4 [n, d], img_w, img_h, and where known obj_id, obj_conf, attr_id, attr_conf [n],
cls_prob [n, c + 1], background first. Ids count without background. A key with a slash becomes groups in groups.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from formats.features import arrays
from formats.features.files import found
from formats.features.record import Bad, Record, Vocabularies, bad_of
from formats.features.vilbert_lmdb import record_of
from pairloom.errors import InputError

NEEDS = ("width",)
STORED = "<f4"
NAMES = {
    "class_ids": ("obj_id", "<i8"),
    "class_scores": ("obj_conf", "<f4"),
    "attribute_ids": ("attr_id", "<i8"),
    "attribute_scores": ("attr_conf", "<f4"),
    "boxes": ("boxes", "<f4"),
    "features": ("features", "<f4"),
    "probs": ("cls_prob", "<f4"),
}


def read(path: Path, floats: str = "<f4") -> Iterator[Record | Bad]:
    """The groups of a file, or of all .h5 and .hdf5 files of a folder, in the order of their names."""
    for file in found(path, ".h5", ".hdf5"):
        try:
            with h5py.File(file, "r") as content:
                for key, group in _groups(content, ""):
                    try:
                        yield record_of({name: values[()] for name, values in group.items()}, key, floats)
                    except (*arrays.DAMAGE, RuntimeError) as error:
                        yield bad_of(error, key, str(file))
        except OSError as error:
            raise InputError(f"it is no HDF5 file, or a damaged one: {error}", str(file), "write it again") from error


def _groups(group: Any, above: str) -> Iterator[tuple[str, Any]]:
    """(key, group) of all that hold arrays."""
    for name in group:
        inside = group[name]
        first = next(iter(inside), None)  # groups hold arrays or groups. To open all of them takes most of the time
        if first is not None and isinstance(inside[first], h5py.Group):
            yield from _groups(inside, f"{above}{name}/")
        else:
            yield f"{above}{name}", inside


def entry(record: Record, words: Vocabularies) -> tuple[str, dict[str, Any]]:
    """(key, arrays) of a picture's group."""
    group: dict[str, Any] = {
        name: np.ascontiguousarray(values, dtype)
        for field, (name, dtype) in NAMES.items()
        if (values := getattr(record, field)) is not None
    }
    return record.key, group | {"img_w": record.width, "img_h": record.height}


class Writer:
    """FOLDER/features.h5. HDF5 may lose a file whose writer was killed, so each shard has a hidden one first."""

    def __init__(self, folder: Path, words: Vocabularies, state: Mapping[str, Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._parts = folder, int(state.get("parts", 0))
        self._file: h5py.File | None = None

    def _part(self, number: int) -> Path:
        return self._folder / f".part-{number:05d}.h5"

    def add(self, entry: tuple[str, dict[str, Any]]) -> None:
        self._file = self._file or h5py.File(self._part(self._parts), "w")
        key, content = entry
        group = self._file.create_group(key)
        for name, values in content.items():
            group[name] = values

    def flush(self) -> dict[str, Any]:
        if self._file is not None:
            self._file.close()
            self._file, self._parts = None, self._parts + 1
        return {"parts": self._parts}

    def close(self) -> None:
        self.flush()
        parts = [self._part(number) for number in range(self._parts)]
        with h5py.File(self._folder / "features.h5", "w") as target:
            for part in parts:
                with h5py.File(part, "r") as source:
                    _merge(source, target)


def _merge(source: Any, target: Any) -> None:
    """Copy what is in a group. A folder of keys may be in several parts."""
    for name in source:
        if name in target:
            _merge(source[name], target[name])
        else:
            source.copy(name, target)
