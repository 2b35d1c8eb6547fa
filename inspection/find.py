"""Find one row by image_id, url or place, reading only the columns that name rows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from inspection.dataset import Dataset
from inspection.examples import REGIONS, words
from inspection.tables import column_names
from pairloom.errors import InputError
from pairloom.store.folder import Folder

NAMING = ("image_id", "url", "key")  # columns that name a row


@dataclass(frozen=True)
class Place:
    """A row, where it lies, and its values."""

    folder: Folder
    name: str
    row: int
    values: dict[str, Any]

    @property
    def image_id(self) -> bytes | None:
        """The image's id. None for a row that never became an image."""
        if "image_id" in self.values:
            found: bytes = self.values["image_id"]
            return found
        key = self.values.get("key", "")
        return bytes.fromhex(key) if re.fullmatch("[0-9a-f]{32}", key) else None


def find_row(found: Dataset, wanted: str) -> Place:
    """The row that `wanted` names (see inspection.preview). Raises InputError if there is none, or more than one."""
    for folder in (*found.best(), *found.rejects.values()):
        places = _places(folder, wanted)
        if len(places) > 1:
            raise InputError(
                f"{len(places)} rows begin with {wanted!r}, such as {places[0][2]} and {places[1][2]}",
                where=str(folder.path),
                fix="give more digits, or the place as shard:row",
            )
        if places:
            name, row, _ = places[0]
            return Place(folder, name, row, _values(folder, name, row))
    raise InputError(
        f"there is no row {wanted!r}",
        where=str(found.root),
        fix="name an image_id in hex or its beginning, a url, or shard:row such as 00000:17",
    )


def _places(folder: Folder, wanted: str) -> list[tuple[str, int, str]]:
    """(shard, row, name) of the rows that fit. Two are enough to know."""
    by_place = re.fullmatch(r"([\w-]+):(\d+)", wanted)
    if by_place:
        name, row = by_place[1], int(by_place[2])
        return [(name, row, wanted) for entry in folder.shards if entry.name == name and row < entry.rows]
    places: list[tuple[str, int, str]] = []
    for entry in folder.shards:
        names = _names(folder, entry.name) if entry.rows else []
        for column in names:
            places += [(entry.name, row, name) for row, name in enumerate(column) if _fits(name, wanted)]
        if len(places) > 1:
            break
    exact = [place for place in places if place[2] == wanted]
    return exact[:1] or places[:2]


def _fits(name: str, wanted: str) -> bool:
    return name == wanted or (bool(re.fullmatch("[0-9a-f]{4,32}", wanted)) and name.startswith(wanted))


def _names(folder: Folder, shard: str) -> list[list[str]]:
    table = folder.read(shard, [name for name in NAMING if name in column_names(folder.table)])
    return [[value.hex() if isinstance(value, bytes) else value for value in column.to_pylist()] for column in table]


def _values(folder: Folder, name: str, row: int) -> dict[str, Any]:
    values: dict[str, Any] = folder.read(name).slice(row, 1).to_pylist()[0]
    return values | (words(folder.metadata(name)) if set(REGIONS) <= set(values) else {})
