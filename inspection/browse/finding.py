"""Find one row by the beginning of its image_id, by its url, or by shard:row: columns are read by DuckDB, in place."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from inspection.browse.data import NUMBERED, Data, batches
from inspection.browse.selection import quoted
from inspection.find import NAMING
from pairloom.errors import InputError
from pairloom.store.folder import Folder

ID_START = re.compile("[0-9a-f]{4,32}")
PLACE = re.compile(r"([\w-]+):(\d+)")
BATCH = 4_000_000  # rows of one query, at most


@dataclass(frozen=True)
class Found:
    """A row: of a stage's table or of what it left out."""

    stage: str
    shard: str
    row: int
    left_out: bool


def names_a_row(wanted: str) -> bool:
    """Whether a text may be an image_id's beginning, a url or a place, and is no word of a caption."""
    return " " not in wanted and bool(ID_START.fullmatch(wanted) or ":" in wanted or "/" in wanted)


def find(data: Data, wanted: str) -> Found | None:
    """The row that a text names: in the tables, those with pictures first, then in what was left out.

    Raises InputError where several ids of a table begin so.
    """
    for left_out, folders in ((False, data.found.best()), (True, list(data.found.rejects.values()))):
        for folder in folders:
            places = _places(data, folder, wanted)
            if len(places) > 1:
                several = f"{len(places)} rows or more begin with {wanted!r}"
                raise InputError(several, str(folder.path), "give more digits, or the place as shard:row")
            if places:
                return Found(folder.path.name, *places[0], left_out)
    return None


def _places(data: Data, folder: Folder, wanted: str) -> list[tuple[str, int]]:
    """(shard, row) of a row with exactly this name, or else of rows whose ids begin so, of which two are enough."""
    if place := PLACE.fullmatch(wanted):
        row = int(place[2])
        return [(place[1], row) for entry in folder.shards if entry.name == place[1] and row < entry.rows]
    columns = data.columns_of(folder)
    exact = " OR ".join(_tests(columns, wanted))
    begins = " OR ".join(_begins(columns, wanted)) or "false"
    places: list[tuple[str, int]] = []
    for shards in batches(folder, most=BATCH) if exact else ():
        sql = (
            f'SELECT filename, file_row_number AS "row", coalesce({exact}, false) AS "exact" FROM {NUMBERED} '
            f'WHERE {exact} OR {begins} ORDER BY "exact" DESC, filename, "row" LIMIT 2'
        )
        rows = data.query(sql, [[str(folder.file(name)) for name in shards]])
        found = [(Path(row["filename"]).stem, row["row"]) for row in rows]
        if rows and rows[0]["exact"]:
            return found[:1]
        places += found
        if len(places) > 1:
            break
    return places[:2]


def _tests(columns: Sequence[str], wanted: str) -> list[str]:
    made = []
    for name in NAMING:
        if name in columns and name != "image_id":
            made.append(f"{name} = {quoted(wanted)}")
        elif name in columns and len(wanted) == 32 and ID_START.fullmatch(wanted):
            made.append(f"image_id = from_hex('{wanted}')")
    return made or (["false"] if "image_id" in columns else [])


def _begins(columns: Sequence[str], wanted: str) -> list[str]:
    """Of ids alone: in quarantine they are text. Row groups without such an id are skipped by their statistics."""
    if not ID_START.fullmatch(wanted):
        return []
    low, high = wanted.ljust(32, "0"), wanted.ljust(32, "f")
    made = [f"image_id BETWEEN from_hex('{low}') AND from_hex('{high}')"] if "image_id" in columns else []
    return made + ([f"starts_with(key, {quoted(wanted)})"] if "key" in columns else [])
