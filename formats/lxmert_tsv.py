"""LXMERT's TSV of region features, written from a regions table (formats/features/lxmert_tsv.py reads it).

One picture a line, tab-separated, no header. Arrays are base64 of little-endian bytes (airsplay/lxmert, utils.py):
img_id, img_h, img_w, objects_id <i8 [n], objects_conf <f4 [n], attrs_id <i8 [n], attrs_conf <f4 [n], num_boxes,
boxes <f4 [n, 4] in pixels of the picture, features <f4 [n, d]. Ids count without background, from 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from formats.features.lxmert_tsv import cells_of
from formats.features.record import Array, Record
from formats.names import one_line
from pairloom.errors import InputError
from pairloom.store.folder import open_folder
from pairloom.table import Blob, metadata
from schemas.regions import REGIONS

COLUMNS = ("class_ids", "class_scores", "attribute_ids", "attribute_scores", "boxes", "features")


def write(regions: Path, target: Path) -> int:
    """Write a finished regions table as TSV, whole or not at all. Returns its lines.

    img_id is the picture's path without its ending, or its image_id in hex where the table knows no path. Raises
    InputError if two pictures would have one img_id, since readers look pictures up by it.
    """
    folder, temporary = open_folder(regions), target.with_name(f".{target.name}.tmp")
    named = [_named(row) for _, table in folder.tables(["image_id", "source"]) for row in table.to_pylist()]
    refuse_clashes(named, str(regions))
    with temporary.open("wb") as file:
        for _, table in folder.tables():
            _write_table(table, file)
    temporary.replace(target)
    return len(named)


def refuse_clashes(sources: Iterable[str], where: str) -> None:
    """Raise InputError if two of these pictures would have one img_id. `extract` asks before it begins."""
    first = dict[str, str]()
    for source in sources:
        name = img_id(source)
        if name in first:
            what = f"{source} and {first[name]} would both be {name!r} in the TSV"
            raise InputError(what, where, "rename one")
        first[name] = source


def img_id(source: str) -> str:
    """What a picture of this path is called in the TSV: the path without its ending, as text of one line."""
    return one_line(source[: source.rfind(".")] if "." in source else source)


def _named(row: Mapping[str, Any]) -> str:
    source: str = row["source"] or row["image_id"].hex()
    return source


def _write_table(table: pa.Table, file: BinaryIO) -> None:
    """Write a line a row."""
    facts = table.select(["image_id", "source", "width", "height", "num_regions"]).to_pylist()
    arrays = {column: _numbers(table, column) for column in COLUMNS}
    for row, fact in enumerate(facts):
        own: dict[str, Any] = {column: rows[row] for column, rows in arrays.items()}
        own |= {name: own[name].reshape(fact["num_regions"], -1) for name in ("boxes", "features")}
        record = Record(key=img_id(_named(fact)), width=fact["width"], height=fact["height"], **own)
        file.write(b"\t".join(cells_of(record)) + b"\n")


def _numbers(table: pa.Table, column: str) -> list[Array]:
    kind = REGIONS.column(column).type
    assert isinstance(kind, Blob)
    return kind.unpack(table[column], metadata(table))
