"""Tables on disk of which a worker wants the rows of one shard: files of a few shards each, found by name."""

from __future__ import annotations

import bisect
import os
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pairloom.store.names import by_number

ROWS, SHARDS = 10_000, 64  # of a file, at least one of both where more follow
NAME = "shard"  # the column that is looked up


@dataclass
class Writing:
    """Writes tables of one schema, whose column NAME is added. Shards come in order."""

    folder: Path
    _waiting: list[pa.Table] = field(default_factory=list)
    _shards: int = 0

    def __post_init__(self) -> None:
        self.folder.mkdir()

    def add(self, shard: str, table: pa.Table) -> None:
        self._waiting.append(table.add_column(0, NAME, pa.array([shard] * len(table), pa.string())))
        self._shards += 1
        if self._shards == SHARDS or sum(map(len, self._waiting)) >= ROWS:
            self.end()

    def end(self) -> None:
        """Write what waits. To be called after the last one."""
        whole = pa.concat_tables(self._waiting) if self._waiting else None
        if whole is not None and len(whole):
            pq.write_table(whole, self.folder / f"{whole[NAME][0].as_py()}.parquet")
        self._waiting, self._shards = [], 0


@dataclass
class Reading:
    """Looks up what `Writing` wrote."""

    folder: Path
    _firsts: list[str] | None = None  # the first shard of each file

    def of(self, shard: str) -> pa.Table | None:
        """The rows of one shard. None where its file has none, which may not be there."""
        if self._firsts is None:
            names = os.listdir(self.folder) if self.folder.is_dir() else ()
            self._firsts = sorted((name.removesuffix(".parquet") for name in names), key=by_number)
        place = bisect.bisect_right(self._firsts, by_number(shard), key=by_number) - 1
        if place < 0:
            return None
        table = pq.read_table(self.folder / f"{self._firsts[place]}.parquet", partitioning=None)
        return table.filter(pc.equal(table[NAME], shard))
