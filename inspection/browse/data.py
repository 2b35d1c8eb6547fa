"""The tables that the browser shows: which columns a row has, and its values, read in place by DuckDB.

Nothing reads a whole table: rows are found by the manifest's counts, and of a shard only what is shown is read.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow.parquet as pq

from inspection.dataset import Dataset, open_dataset
from inspection.examples import words
from inspection.flow import Flow
from inspection.tables import column_names
from pairloom.errors import InputError
from pairloom.store.folder import Folder, read_group

MEMORY = "300MB"  # of DuckDB's own
MOST_THREADS = 8  # of DuckDB, each of which holds row groups
GROUPS = 4  # row groups of pictures that are kept, of some 24 MB each
KNOWN = 50_000  # images whose places are remembered
PICTURE = "image"
NOT_SHOWN = (PICTURE, "features", "grid", "patch_features", "pyramid_features", "pyramid_turned", "pyramid_grey")
NUMBERED = "read_parquet(?, filename = true, file_row_number = true)"  # files, with the place of each row
Row = dict[str, Any]
Place = tuple[str, int]  # shard, row


@dataclass(frozen=True)
class Table:
    """A table whose rows are shown, and those beside it that say more of the same images, shard by shard."""

    stage: str
    folder: Folder
    columns: tuple[str, ...]
    beside: tuple[tuple[Folder, tuple[str, ...]], ...]  # each with the columns that no table before it has
    pictures: Folder | None  # that or one beside it

    @property
    def every_column(self) -> dict[str, Folder]:
        """Column -> the table that has it."""
        return {name: folder for folder, names in ((self.folder, self.columns), *self.beside) for name in names}

    def places(self, start: int, count: int) -> list[Place]:
        """Rows start to start + count of the whole table, from the manifest alone."""
        ends = np.cumsum(self.folder.shards.column("rows"))
        found: list[Place] = []
        for row in range(start, min(start + count, self.folder.rows)):
            shard = int(np.searchsorted(ends, row, side="right"))
            before = int(ends[shard - 1]) if shard else 0
            found.append((self.folder.shards[shard].name, row - before))
        return found


@dataclass
class Data:
    """One dataset, opened for looking. Safe for threads: each call has a cursor of its own."""

    root: Path
    flow: Flow
    found: Dataset
    connection: duckdb.DuckDBPyConnection
    _schemas: dict[Path, tuple[str, ...]] = field(default_factory=dict)
    _groups: OrderedDict[tuple[Path, int], Any] = field(default_factory=OrderedDict)
    _placed: OrderedDict[bytes, Place] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def name(self) -> str:
        root = self.root.resolve()
        return root.parent.name if root.name == "data" and root.parent.name else root.name

    def tables(self) -> list[str]:
        """The tables that have rows to show, in the order of the data."""
        return [stage for stage, folder in self.found.tables.items() if folder.rows]

    def default_table(self) -> str:
        """The latest table with pictures, whose shards are those of the tables beside it: what one looks at first."""
        with_pictures = [folder.path.name for folder in self.found.best() if PICTURE in column_names(folder.table)]
        return next((stage for stage in with_pictures if stage in self.tables()), (self.tables() or [""])[0])

    def table(self, stage: str) -> Table:
        """Raises InputError if there is no such table."""
        if stage not in self.found.tables:
            raise InputError(f"there is no table {stage!r}", str(self.root), f"name one of {', '.join(self.tables())}")
        folder = self.found.tables[stage]
        own = self.columns_of(folder)
        beside: list[tuple[Folder, tuple[str, ...]]] = []
        known = set(own)
        if "image_id" in own and not self.flow.recut(stage):
            for other, candidate in self.found.tables.items():
                names = self.columns_of(candidate)
                new = tuple(name for name in names if name not in known)
                if (
                    other != stage
                    and not self.flow.recut(other)
                    and "image_id" in names
                    and self._aligned(folder, candidate)
                ):
                    beside.append((candidate, new))
                    known |= set(new)
        pictures = next(
            (each for each in (folder, *(one for one, _ in beside)) if PICTURE in self.columns_of(each)), None
        )
        return Table(stage, folder, own, tuple(beside), pictures)

    def _aligned(self, one: Folder, other: Folder) -> bool:
        mine, theirs = one.shards.column("name"), set(other.shards.column("name"))
        return bool(mine) and mine[0] in theirs

    def columns_of(self, folder: Folder) -> tuple[str, ...]:
        """The columns that its files have."""
        if folder.path not in self._schemas:
            first = next((entry.name for entry in folder.shards if entry.rows), None)
            names = pq.read_schema(folder.here(first)).names if first else column_names(folder.table)
            self._schemas[folder.path] = tuple(names)
        return self._schemas[folder.path]

    def vocabulary(self, folder: Folder) -> dict[str, list[str]]:
        """Names of classes and attributes, as `inspection.examples` takes them."""
        first = next((entry.name for entry in folder.shards if entry.rows), None)
        return words(folder.metadata(first)) if first else words({})

    def query(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        """The rows of a query by column name. Raises InputError with what DuckDB says."""
        cursor = self.connection.cursor()
        try:
            found = cursor.execute(sql, list(values)).fetchall()
            names = [column[0] for column in cursor.description or ()]
        except duckdb.Error as error:
            raise InputError(f"DuckDB says: {error}", sql[:200], "change the condition") from error
        finally:
            cursor.close()
        return [dict(zip(names, row, strict=True)) for row in found]

    def rows(self, table: Table, places: Collection[Place], columns: Collection[str] = ()) -> list[Row]:
        """These rows with all that the tables beside say of them, without vectors. Each knows its shard and row."""
        made: dict[Place, Row] = {}
        for shard in dict.fromkeys(shard for shard, _ in places):
            numbers = [row for name, row in places if name == shard]
            wanted = _shown(table.columns, columns)
            own = self._read(table.folder, shard, wanted, f"row IN ({', '.join(map(str, numbers))})")
            found = {row.pop("row"): row for row in own}
            self._add_beside(table, shard, list(found.values()), columns)
            made.update({(shard, number): {"shard": shard, "row": number} | row for number, row in found.items()})
        return [made[place] for place in places if place in made]

    def _add_beside(self, table: Table, shard: str, rows: Sequence[Row], columns: Collection[str]) -> None:
        ids = [row["image_id"] for row in rows if "image_id" in row]
        for folder, names in table.beside if ids else ():
            wanted = _shown(names, columns)
            if wanted and folder.here(shard).exists():
                more = {row["image_id"]: row for row in self.by_id(folder, shard, ids, wanted)}
                for row in rows:
                    row |= {name: more.get(row["image_id"], {}).get(name) for name in wanted}

    def by_id(self, folder: Folder, shard: str, ids: Sequence[bytes], columns: Sequence[str]) -> list[Row]:
        """The rows of these images in a shard, each with its `row`."""
        return self._read(folder, shard, ["image_id", *columns], f"image_id IN ({literals(ids)})")

    def _read(self, folder: Folder, shard: str, columns: Sequence[str], condition: str) -> list[Row]:
        chosen = ", ".join(dict.fromkeys(_quoted(name) for name in columns))
        source = "read_parquet(?, file_row_number = true)"
        sql = f'SELECT {chosen}, "row" FROM (SELECT *, file_row_number AS "row" FROM {source}) WHERE {condition}'
        return self.query(sql, [str(folder.here(shard))])

    def keyed(self, folder: Folder, shard: str, column: str, value: str) -> list[Row]:
        """The rows of a shard whose column has this text, whole but for pictures and vectors."""
        columns = _shown(self.columns_of(folder), ())
        chosen = ", ".join(map(_quoted, columns))
        source = "read_parquet(?, file_row_number = true)"
        sql = f'SELECT {chosen}, file_row_number AS "row" FROM {source} WHERE {_quoted(column)} = ?'
        return self.query(sql, [str(folder.here(shard)), value])

    def picture(self, folder: Folder, shard: str, row: int) -> bytes | None:
        """The encoded picture of a row. None where the table holds none, as where it is only a link."""
        file = folder.here(shard)
        sizes = pq.read_metadata(file)
        group = 0
        while group < sizes.num_row_groups and row >= sizes.row_group(group).num_rows:
            row -= sizes.row_group(group).num_rows
            group += 1
        if group == sizes.num_row_groups:
            return None
        with self._lock:  # one at a time, or threads that show one page would each read the same group
            if (file, group) not in self._groups:
                self._groups[file, group] = read_group(file, group, [PICTURE])[PICTURE]
            self._groups.move_to_end((file, group))
            while len(self._groups) > GROUPS:
                self._groups.popitem(last=False)
            found: bytes | None = self._groups[file, group][row].as_py()
        return found

    def locate(self, folder: Folder, ids: Collection[bytes]) -> dict[bytes, Place]:
        """Where these images lie in a table. Batches of shards are read until all are found."""
        missing = {image_id for image_id in ids if image_id not in self._placed}
        for shards in batches(folder) if missing else ():
            files = [str(folder.here(name)) for name in shards]
            sql = (
                f'SELECT image_id, filename, file_row_number AS "row" FROM {NUMBERED} '
                f"WHERE image_id IN ({literals(missing)})"
            )
            for row in self.query(sql, [files]):
                self._placed[row["image_id"]] = (Path(row["filename"]).stem, row["row"])
                missing.discard(row["image_id"])
            if not missing:
                break
        found = {image_id: self._placed[image_id] for image_id in ids if image_id in self._placed}
        while len(self._placed) > KNOWN:
            self._placed.popitem(last=False)
        return found


def open_data(path: Path, flow: Flow, connection: duckdb.DuckDBPyConnection) -> Data:
    found = open_dataset(path, flow)
    for error in found.broken.values():
        raise error
    return Data(path, flow, found, connection)


def connect(paths: Sequence[Path]) -> duckdb.DuckDBPyConnection:
    """A database in memory that can read these folders and nothing else, whatever a condition says."""
    connection = duckdb.connect(":memory:")
    folders = ", ".join("'" + str(path).replace("'", "''") + "'" for path in paths)
    for setting in (
        f"memory_limit = '{MEMORY}'",
        f"threads = {max(2, min(os.cpu_count() or 1, MOST_THREADS))}",
        f"allowed_directories = [{folders}]",
        "enable_external_access = false",
        "lock_configuration = true",
    ):
        connection.execute(f"SET {setting}")
    return connection


def batches(folder: Folder, first: int = 20_000, most: int = 400_000) -> Iterator[list[str]]:
    """The names of the shards in groups of about so many rows, each group twice as large as the one before."""
    names: list[str] = []
    rows, limit = 0, first
    for entry in folder.shards:
        names, rows = [*names, entry.name], rows + entry.rows
        if rows >= limit:
            yield names
            names, rows, limit = [], 0, min(most, 2 * limit)
    if names:
        yield names


def _shown(columns: Collection[str], wanted: Collection[str]) -> list[str]:
    return [name for name in columns if name not in NOT_SHOWN and (not wanted or name in wanted or name == "image_id")]


def literals(ids: Collection[bytes]) -> str:
    return ", ".join(f"from_hex('{image_id.hex()}')" for image_id in ids) or "NULL"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def as_mapping(rows: Sequence[Row], key: str) -> Mapping[Any, Row]:
    return {row[key]: row for row in rows}
