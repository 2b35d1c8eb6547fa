"""Show one row of any table: its columns as text, and its picture with boxes and tags as PNG or HTML."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from inspection import drawing
from inspection.dataset import QUARANTINE, Dataset, open_dataset
from inspection.examples import Example, examples, regions_of
from inspection.find import Place, find_row
from inspection.flow import Flow
from inspection.tables import table_of
from pairloom.errors import InputError
from pairloom.store.folder import is_table
from pairloom.table import Blob, Column

LONG = 300  # characters of a value that are shown
NUMBERS = 8  # numbers of a blob that are shown
STYLE = Path(__file__).parent / "report" / "style.css"


@dataclass(frozen=True)
class Shown:
    """A row for machines and for people."""

    facts: dict[str, Any]
    text: str


def preview(path: Path | str, row: str, flow: Flow, out: Path | None = None) -> Shown:
    """One row of the table in this folder, or of the best table below a data root that has it.

    row: an image_id in hex or its beginning, a url, or `shard:row` counted from 0 (00000:17). out: a .png or
    .html file to write the picture to, with its boxes and tags. Raises StoreError if there is no table, and
    InputError if there is no such row, several that begin so, or no picture to write.
    """
    place = find_row(open_dataset(path, flow), row)
    columns = {column.name: place.values.get(column.name) for column in table_of(place.folder.table).columns}
    example = _picture(place, flow)
    metadata = place.folder.metadata(place.name)
    shown = {column.name: plain(column, columns, metadata) for column in table_of(place.folder.table).columns}
    facts = {
        "folder": str(place.folder.path),
        "table": place.folder.table,
        "shard": place.name,
        "row": place.row,
        "columns": shown,
        "picture": str(out) if out else None,
    }
    lines = [f"{place.folder.path}: table {place.folder.table}, shard {place.name}, row {place.row}", ""]
    lines += _lines({name: str(value) for name, value in shown.items()})
    lines += _regions(place, example)
    text = "\n".join(lines)
    if out:
        _write(out, example, text, place)
        text += f"\n\npicture: {out}"
    return Shown(facts, text)


def _lines(columns: Mapping[str, str]) -> list[str]:
    """name and value, further lines of the value below the first."""
    width = max(map(len, columns))
    return [f"  {name:<{width}}  " + value.replace("\n", "\n" + " " * (width + 4)) for name, value in columns.items()]


def plain(column: Column, row: Mapping[str, Any], metadata: Mapping[str, str]) -> Any:
    """A value for a reader and for JSON: ids in hex, pictures and blobs by their size and first numbers."""
    value = row[column.name]
    if isinstance(column.type, Blob) and value is not None:
        return _blob(column.type.number(metadata).str, value)
    if isinstance(value, bytes):
        return value.hex() if len(value) <= 64 else f"{len(value):,} bytes"
    if isinstance(value, list):
        return _Items(_item(item) for item in value)
    if isinstance(value, str) and len(value) > LONG:
        return value[:LONG] + "…"
    return value


class _Items(list[Any]):
    """A list that prints one item a line, but numbers beside each other."""

    def __str__(self) -> str:
        if all(isinstance(item, int | float) for item in self):
            return " ".join(map(str, self))
        return "\n".join(str(item) for item in self[:NUMBERS]) + (
            f"\n… {len(self):,} in all" if len(self) > NUMBERS else ""
        )


def _item(item: Any) -> Any:
    if isinstance(item, dict):
        return _Fields({key: _item(value) for key, value in item.items()})
    if isinstance(item, tuple):
        return _Fields({str(item[0]): f"{item[0]} = {item[1]}"})  # an entry of a map
    if isinstance(item, list):
        return _Items(_item(part) for part in item)
    if isinstance(item, float):
        return float(f"{item:.4g}")
    return item.hex() if isinstance(item, bytes) else item


class _Fields(dict[str, Any]):
    """A struct that prints as its values."""

    def __str__(self) -> str:
        shown = dict.fromkeys(str(value) for value in self.values() if value is not None)
        return "  ".join(shown)  # a caption that was clean from the start is shown once


def _blob(dtype: str, value: bytes) -> str:
    numbers = np.frombuffer(value, dtype)
    first = " ".join(f"{number:.4g}" for number in numbers[:NUMBERS].tolist())
    return f"{len(numbers):,} {dtype}: {first}{' …' if len(numbers) > NUMBERS else ''}"


def _regions(place: Place, example: Example | None) -> list[str]:
    """The row's regions in words, if it has any."""
    regions = regions_of(place.values) if "boxes" in place.values else example.regions if example else ()
    if not regions:
        return []
    lines = ["", "  region  score  class, attribute                    x1 y1 x2 y2"]
    for i, region in enumerate(regions):
        words = f"{region.name}, {region.attribute} {region.attribute_score:.2f}"
        lines.append(f"  {i:>6}  {region.score:.3f}  {words:<35} {' '.join(f'{value:.0f}' for value in region.box)}")
    return lines


def _picture(place: Place, flow: Flow) -> Example | None:
    """The row's image with everything that the tables beside this one say of it. None if there is none."""
    image_id = place.image_id
    if image_id is None:
        return None
    found = examples(_around(place, flow), place.name, [image_id])
    return found[0] if found else None


def _around(place: Place, flow: Flow) -> Dataset:
    """The data root that the row's table lies in, or just that table."""
    folder = place.folder.path
    root = folder.parent.parent if folder.parent.name == QUARANTINE else folder.parent
    beside = root.is_dir() and sum(is_table(path) for path in root.iterdir()) > 1
    return open_dataset(root if beside else folder, flow)


def _write(out: Path, example: Example | None, text: str, place: Place) -> None:
    if out.suffix not in (".png", ".html"):
        raise InputError(f"cannot write a picture as {out.suffix or 'that'}", str(out), "name a .png or .html file")
    if example is None:
        raise InputError(
            f"there is no picture of row {place.row} of shard {place.name}",
            where=str(place.folder.path),
            fix="leave out --out to see the row as text, or name a row of data/curate",
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".png":
        out.write_bytes(drawing.png(example))
    else:
        out.write_text(drawing.page(example, text, STYLE.read_text(encoding="utf-8")), encoding="utf-8")
