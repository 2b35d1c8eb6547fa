"""The rows of two tables side by side, shard by shard. Rows whose partner lies elsewhere wait in files.

Memory is that of one column of two shards of the same name, and later of one part of what waited.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa
import xxhash

from inspection.columns import Array
from inspection.diff.keys import KEY_BYTES, keys_of, matched, shown_keys
from inspection.diff.parts import Lists
from inspection.diff.rows import EXAMPLES, LISTS, Found, Sides, compare_rows
from pairloom.store.folder import Entry, Folder

PART_ROWS = 50_000  # about so many rows of a side are compared at once after waiting
MOST_PARTS = 256  # files open at once, of each side
DIGESTED = ("features", "grid", "patch_features", "pyramid_features", "pyramid_turned", "pyramid_grey")


def compare_shards(sides: Sides, aside: Path, advance: Callable[[int], None]) -> Found:
    """Every row of both tables. aside: an empty folder for rows whose partner is not in the shard of the same name.

    Of these the vectors are compared by a hash, without the tolerance. advance: told of the rows done.
    """
    found = Found()
    theirs = {entry.name: entry for entry in sides.others.shards}
    parts = min(MOST_PARTS, 1 + (sides.some.rows + sides.others.rows) // (2 * PART_ROWS))
    with Waiting(sides, aside, parts) as waiting:
        for entry in sides.some.shards:
            other = theirs.pop(entry.name, None)
            if other is not None and other.sha256 == entry.sha256:
                _count_identical(sides, entry, found)
            elif other is None:
                waiting.add(0, entry.name)
            else:
                _compare_pair(sides, entry, other, found, waiting)
            advance(entry.rows + (other.rows if other else 0))
        for entry in theirs.values():
            waiting.add(1, entry.name)
            advance(entry.rows)
    for tables in waiting.parts():
        _compare_part(sides, tables, found)
    return found


def _count_identical(sides: Sides, entry: Entry, found: Found) -> None:
    """A shard that is the same on both sides, byte for byte; of its lists only the lengths are read."""
    found.equal += entry.rows
    for name in sides.compared:
        if sides.types[0][name] == LISTS and entry.rows:
            index = sides.some.read(entry.name, [f"{name}.list.element.list.element.caption_index"])
            found.lists.setdefault(name, Lists()).add_equal(index[name].combine_chunks())


def _compare_pair(sides: Sides, entry: Entry, other: Entry, found: Found, waiting: Waiting) -> None:
    """Two shards of the same name."""
    folders, names = (sides.some, sides.others), (entry.name, other.name)
    tables = [folder.read(name, sides.key) for folder, name in zip(folders, names, strict=True)]
    rows = matched(tables[0], tables[1], sides.key)
    found.moved += int((np.argsort(np.argsort(rows[1])) != np.arange(len(rows[1]))).sum())

    def column(side: int, name: str) -> pa.Array:
        whole = folders[side].read(names[side], [name])[name].combine_chunks()
        return whole if len(rows[side]) == len(whole) and _rising(rows[side]) else whole.take(pa.array(rows[side]))

    changed = compare_rows(sides, lambda name: column(0, name), lambda name: column(1, name), len(rows[0]), found)
    found.name("changed", shown_keys(tables[0].take(pa.array(rows[0][changed][:EXAMPLES])), sides.key))
    for side, name in enumerate(names):
        rest = np.setdiff1d(np.arange(len(tables[side])), rows[side], assume_unique=True)
        if len(rest):
            waiting.add(side, name, rest)


def _rising(rows: Array) -> bool:
    return bool(np.array_equal(rows, np.arange(len(rows))))


class Waiting:
    """Rows of both sides without a partner so far, in files by their key. A context manager while they are written."""

    def __init__(self, sides: Sides, folder: Path, parts: int) -> None:
        self._sides, self._folder, self._count = sides, folder, parts
        self._writers: dict[tuple[int, int], pa.RecordBatchWriter] = {}
        self._open = ExitStack()

    def __enter__(self) -> Waiting:
        return self

    def __exit__(self, *raised: object) -> None:
        self._open.close()

    def add(self, side: int, shard: str, rows: Array | None = None) -> None:
        """These rows of a shard, or all."""
        folder = (self._sides.some, self._sides.others)[side]
        table = _light(folder, shard, [*self._sides.key, *self._sides.compared], rows)
        digits = np.frombuffer(keys_of(table, self._sides.key).tobytes(), np.uint8).reshape(-1, KEY_BYTES + 4)
        part = digits[:, :2].astype(np.int64) @ (256, 1) % self._count
        for number in np.unique(part).tolist():
            self._writer(side, number, table.schema).write_table(table.filter(pa.array(part == number)))

    def _writer(self, side: int, part: int, schema: pa.Schema) -> pa.RecordBatchWriter:
        if (side, part) not in self._writers:
            sink = self._open.enter_context(pa.OSFile(str(self._file(side, part)), "wb"))
            self._writers[side, part] = self._open.enter_context(pa.ipc.new_file(sink, schema))
        return self._writers[side, part]

    def _file(self, side: int, part: int) -> Path:
        return self._folder / f"{side}-{part}.arrow"

    def parts(self) -> Iterator[list[pa.Table | None]]:
        """What waited, in parts that have all rows of their keys: the table of each side, None where it has none."""
        for part in sorted({part for _, part in self._writers}):
            yield [self._read(side, part) if (side, part) in self._writers else None for side in range(2)]
            for side in range(2):
                self._file(side, part).unlink(missing_ok=True)

    def _read(self, side: int, part: int) -> pa.Table:
        with pa.OSFile(str(self._file(side, part))) as source:
            return pa.ipc.open_file(source).read_all()


def _light(folder: Folder, shard: str, columns: list[str], rows: Array | None) -> pa.Table:
    """Rows of a shard, each vector in the place of which its hash stands, so that what waits stays small."""
    made = {}
    for name in columns:
        column = folder.read(shard, [name])[name].combine_chunks()
        column = column if rows is None else column.take(pa.array(rows))
        if name in DIGESTED:
            column = pa.array(
                [None if v is None else xxhash.xxh3_128_digest(v) for v in column.to_pylist()], pa.binary()
            )
        made[name] = column
    return pa.table(made)


def _compare_part(sides: Sides, given: list[pa.Table | None], found: Found) -> None:
    """What waited of some keys: partners from shards of different names, and rows without any."""
    schema = next(table.schema for table in given if table is not None)
    tables = [schema.empty_table() if table is None else table for table in given]
    rows = matched(tables[0], tables[1], sides.key)
    found.moved += len(rows[0])

    def column(side: int, name: str) -> pa.Array:
        return tables[side][name].combine_chunks().take(pa.array(rows[side]))

    changed = compare_rows(sides, lambda name: column(0, name), lambda name: column(1, name), len(rows[0]), found)
    found.name("changed", shown_keys(tables[0].take(pa.array(rows[0][changed][:EXAMPLES])), sides.key))
    for side, kind in enumerate(("only_a", "only_b")):
        rest = np.setdiff1d(np.arange(len(tables[side])), rows[side], assume_unique=True)
        setattr(found, kind, getattr(found, kind) + len(rest))
        found.name(kind, shown_keys(tables[side].take(pa.array(rest[:EXAMPLES])), sides.key))
