"""Regions that the original extraction code wrote, to compare with: BUTD's and LXMERT's TSV, MILVLG's npz."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from formats.features import butd_tsv, lxmert_tsv, milvlg_npz
from formats.features.lines import lines
from formats.features.record import Array, Bad, Record
from pairloom.errors import InputError

ENDINGS = (".tsv", ".npz")
COLUMNS = {field: (name, np.dtype(kind)) for field, (name, kind) in milvlg_npz.NAMES.items()}


@dataclass(frozen=True)
class Golden:
    """One image's regions as the original code wrote them. Ids are without background, None where it has none."""

    image_id: str
    width: int
    height: int
    boxes: Array  # (N, 4), pixels of the stored picture
    features: Array  # (N, D)
    columns: Mapping[str, Array]  # objects_id, objects_conf, attrs_id, attrs_conf: those that are in the file


def read(folder: Path) -> Iterator[Golden]:
    """All images in the .tsv and .npz files of a folder, or of one file. Raises InputError for a damaged one."""
    files = [folder] if folder.is_file() else sorted(each for each in folder.glob("*") if each.suffix in ENDINGS)
    if not files:
        raise InputError(
            "there are no regions to compare with",
            where=str(folder),
            fix="name a folder of .tsv files (BUTD, LXMERT) or .npz files (MILVLG) that the original code wrote",
        )
    for file in files:
        for one in _layout(file).read(file, "<f4"):
            if isinstance(one, Bad):
                raise InputError(f"it cannot be read: {one.detail}", where=one.place, fix="write it again")
            yield _golden(one)


def _layout(file: Path) -> Any:
    """The layout of a file. Of a TSV its first line says it."""
    if file.suffix == ".npz":
        return milvlg_npz
    columns = len(next(lines(file)).cells) if file.stat().st_size else 0
    return lxmert_tsv if columns in (len(lxmert_tsv.FIELDS), len(lxmert_tsv.WITHOUT_ATTRIBUTES)) else butd_tsv


def _golden(record: Record) -> Golden:
    found = {name: (getattr(record, field), kind) for field, (name, kind) in COLUMNS.items()}
    return Golden(
        image_id=record.key,
        width=record.width or 0,
        height=record.height or 0,
        boxes=np.asarray(record.boxes, np.float32),
        features=np.asarray(record.features, np.float32),
        columns={name: np.asarray(values, kind) for name, (values, kind) in found.items() if values is not None},
    )
