"""What a manifest says: of a table its header, and of each shard an entry."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, overload

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pairloom.store.names import by_number


@dataclass(frozen=True)
class Header:
    """What made the table. The same for all its shards."""

    table: str
    table_version: int
    stage: str
    stage_version: int
    config: Mapping[str, Any]
    resources: Mapping[str, str] = field(default_factory=dict)  # file name -> SHA-256
    pairloom: str = ""


@dataclass(frozen=True)
class Entry:
    """One finished shard: `rows_in` of its main input became `rows`. `rejected` counts the others by reason."""

    name: str
    rows: int
    bytes: int
    sha256: str
    fingerprint: str = ""
    rows_in: int = 0
    rejected: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Columns:
    """The fields of many entries, as a Parquet file in memory. One is decoded when it is asked for."""

    content: bytes

    @property
    def _file(self) -> pq.ParquetFile:
        return pq.ParquetFile(pa.BufferReader(self.content))  # a new one: threads may not share a reader

    @property
    def schema(self) -> pa.Schema:
        return self._file.schema_arrow

    def __getitem__(self, key: str) -> pa.ChunkedArray:
        return self._file.read([key])[key]

    def __len__(self) -> int:
        return int(self._file.metadata.num_rows)


class Shards(Sequence[Entry]):
    """The entries of a manifest in order. Those of a large one are made when they are looked at."""

    def __init__(self, entries: Sequence[Entry] | Columns) -> None:
        self._given = entries
        self._columns: dict[str, list[Any]] = {}

    def column(self, key: str) -> list[Any]:
        """One field of every entry, which needs no entries."""
        if key not in self._columns:
            given = self._given
            if isinstance(given, Columns):
                self._columns[key] = given[key].to_pylist()
            else:
                self._columns[key] = [getattr(entry, key) for entry in given]
        return self._columns[key]

    def total(self, key: str) -> int:
        """The sum of a number over all entries."""
        if isinstance(self._given, Columns):
            return int(pc.sum(self._given[key]).as_py() or 0)
        return sum(self.column(key))

    def rejected(self) -> dict[str, int]:
        """Rows left out of all shards, by reason."""
        counts: Counter[str] = Counter()
        if isinstance(self._given, Columns):  # most are empty, and a million empty lists cost
            for chunk in self._given["rejected"].chunks:
                for reason, rows in zip(chunk.keys.to_pylist(), chunk.items.to_pylist(), strict=True):
                    counts[reason] += rows
        else:
            for entry in self._given:
                counts.update(entry.rejected)
        return dict(sorted(counts.items()))

    @cached_property
    def _entries(self) -> tuple[Entry, ...]:
        if not isinstance(self._given, Columns):
            return tuple(self._given)
        rejected = [dict(counts) for counts in self.column("rejected")]
        others = [self.column(each.name) for each in fields(Entry) if each.name != "rejected"]
        return tuple(Entry(*values) for values in zip(*others, rejected, strict=True))  # rejected is the last field

    @overload
    def __getitem__(self, place: int) -> Entry: ...

    @overload
    def __getitem__(self, place: slice) -> tuple[Entry, ...]: ...

    def __getitem__(self, place: int | slice) -> Entry | tuple[Entry, ...]:
        return self._entries[place]

    def __len__(self) -> int:
        return len(self._given)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and self._entries == tuple(other)

    def __hash__(self) -> int:
        return hash(tuple(self.column("name")))

    def __repr__(self) -> str:
        return f"Shards({list(self._entries[:3])}{' …' if len(self) > 3 else ''})"


def in_order(entries: Iterable[Entry]) -> list[Entry]:
    """Of each shard its last entry, since one that was made twice has two lines; by their numbers."""
    latest = {entry.name: entry for entry in entries}
    return [latest[name] for name in sorted(latest, key=by_number)]
