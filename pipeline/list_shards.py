"""The shards of a list beside the list itself: which are still what it says, and which bad rows belong to each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path

import pyarrow as pa

from formats.lists import BadRow, Part
from formats.lists.stream import ListStream
from pairloom.errors import StoreError
from pairloom.store.folder import Entry, is_table, open_folder, read_shard
from pairloom.store.writing import write_shard
from stages.rejects import Reject, quarantine


@dataclass
class Listing:
    """Where a list's tables lie, and the list, read from its beginning."""

    table: Path
    quarantine: Path
    stream: ListStream
    bad: dict[str, tuple[BadRow, ...]] = field(default_factory=dict)  # of each shard so far

    def unchanged(self, redo: bool) -> list[Entry]:
        """The first shards that still equal the list's beginning, with the counts of the list as it is now.

        Raises StoreError where a row has changed, unless redo.
        """
        kept: list[Entry] = []
        position = 0
        for entry in open_folder(self.table).shards if is_table(self.table) else ():
            taken = self.stream.take(entry.rows)
            difference = self._difference(entry, taken.rows)
            if difference is not None:
                if not redo:
                    raise _changed(self.table, position + difference)
                self.stream.put_back(taken)
                break
            kept.append(self.counted(entry, taken))
            position += entry.rows
        return kept

    def _difference(self, entry: Entry, listed: pa.Table) -> int | None:
        """The first row of a shard that is not as listed. A shard that cannot be read is written again."""
        try:
            stored = read_shard(self.table / f"{entry.name}.parquet")
        except StoreError:
            again = write_shard(self.table, entry.name, listed)
            return None if again.sha256 == entry.sha256 else 0
        return None if equal_rows(stored, listed) else _first_difference(stored, listed)

    def counted(self, entry: Entry, part: Part) -> Entry:
        """The entry of a shard with how many rows of the list went in and were left out. The latter are noted."""
        self.bad[entry.name] = part.bad
        rejected = {"bad-row": len(part.bad)} if part.bad else {}
        return replace(entry, rows_in=part.rows.num_rows + len(part.bad), rejected=rejected)

    def with_rejects(self, entry: Entry) -> tuple[Entry, Entry]:
        """The entry and that of its bad rows, which are written here."""
        bad = self.bad[entry.name]
        if not bad:
            (self.quarantine / f"{entry.name}.parquet").unlink(missing_ok=True)
            return entry, Entry(entry.name, rows=0, bytes=0, sha256="")
        return entry, write_shard(self.quarantine, entry.name, _rejects(bad))

    def rejects_differ(self) -> bool:
        """Whether the quarantine holds other bad rows of these shards than the list has now."""
        folder = open_folder(self.quarantine) if is_table(self.quarantine) else None
        there = {entry.name for entry in folder.shards} if folder else set()
        if there - self.bad.keys() or not {name for name, bad in self.bad.items() if bad} <= there:
            return True
        return any(folder.read(name) != _rejects(self.bad[name]) for name in there) if folder else False


def _rejects(bad: Iterable[BadRow]) -> pa.Table:
    return quarantine("sample", map(_reject, bad))


def _reject(bad: BadRow) -> Reject:
    return Reject(f"{bad.file}:{bad.number}", "bad-row", bad.said, {"line": bad.number, "text": bad.text})


def _changed(target: Path, row: int) -> StoreError:
    return StoreError(
        f"row {row} of the list (counted from 0) is not what it was",
        where=str(target),
        fix="put the row back, append new rows at the end, or add --redo to fetch the changed rows again",
    )


def equal_rows(stored: pa.Table, listed: pa.Table) -> bool:
    """Whether two tables hold the same rows, whatever their metadata and chunks."""
    plain = stored.replace_schema_metadata(None).combine_chunks()
    return bool(plain.equals(listed.replace_schema_metadata(None).combine_chunks()))


def _first_difference(stored: pa.Table, listed: pa.Table) -> int:
    """The first row of the stored shard that the list has otherwise or not at all."""
    pairs = zip_longest(stored.to_pylist(), listed.to_pylist())
    return next(row for row, (old, new) in enumerate(pairs) if old != new)
