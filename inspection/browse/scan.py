"""One pass over a table for a selection, in a thread: the places of its rows as they are found, and how many there are.

A batch of shards is one query, whatever tables the condition needs: shard N of each holds the same images.
"""

from __future__ import annotations

import re
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from inspection.browse.data import NUMBERED, PICTURE, Data, Place, Table, batches
from inspection.columns import Array
from pairloom.errors import PairloomError
from pairloom.store.folder import Folder

KEPT = 100_000  # places of an ordered scan that are kept
MOST = 5_000_000  # of one without an order: 12 bytes each
IDENTIFIER = re.compile(r"[A-Za-z_]\w*")


@dataclass
class Scan:
    """Rows of a table for which a condition holds, those with the largest `order` first if there is one."""

    data: Data
    table: Table
    condition: str
    order: str
    count: int = 0  # rows found so far
    looked: int = 0  # rows looked at
    finished: bool = False
    error: PairloomError | None = None
    cancelled: bool = False
    _shards: list[Array] = field(default_factory=list)  # numbers of shards, rows, and the order's values
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop after the batch that is being read."""
        self.cancelled = True
        self._thread.join()

    def places(self, start: int, count: int, wait_s: float) -> list[Place]:
        """Some of the rows. Waits until they are there, or for so long. With an order, until all rows are looked at."""
        end = time.monotonic() + wait_s
        with self._changed:
            while not self._enough(start + count) and (left := end - time.monotonic()) > 0:
                self._changed.wait(left)
            found = np.concatenate(self._shards) if self._shards else np.zeros(0, _PLACE)
        names = self.table.folder.shards
        return [(names[int(shard)].name, int(row)) for shard, row, _ in found[start : start + count]]

    def wait(self, wait_s: float) -> None:
        """Until all rows are looked at, or for so long."""
        self.places(MOST, 1, wait_s)

    def _enough(self, count: int) -> bool:
        return self.finished or (not self.order and self.count >= count)

    def _run(self) -> None:
        folder = self.table.folder
        numbers = {str(folder.here(name)): number for number, name in enumerate(folder.shards.column("name"))}
        rows = dict(zip(folder.shards.column("name"), folder.shards.column("rows"), strict=True))
        try:
            for shards in batches(folder):
                found = self._query(shards, numbers)
                with self._changed:
                    self._take(found)
                    self.looked += sum(rows[name] for name in shards)
                    self._changed.notify_all()
                if self.cancelled:
                    return
        except PairloomError as error:
            self.error = error
        finally:
            with self._changed:
                self.finished = True
                self._changed.notify_all()

    def _take(self, found: Array) -> None:
        self.count += len(found)
        if self.order:
            every = np.concatenate([*self._shards, found])
            best = np.lexsort((every["row"], every["shard"], -every["order"]))[:KEPT]
            self._shards = [every[best]]
        elif self.count <= MOST:
            self._shards.append(found)

    def _query(self, shards: Sequence[str], numbers: dict[str, int]) -> Array:
        order = self.order or "0"
        sql, values = relation(self.data, self.table, shards, f"{self.condition} {order}")
        rows = self.data.query(
            f'SELECT filename, "row", ({order})::DOUBLE AS "order" FROM ({sql}) WHERE {self.condition or "true"}',
            values,
        )
        found = np.zeros(len(rows), _PLACE)
        found["shard"] = [numbers[row["filename"]] for row in rows]
        found["row"] = [row["row"] for row in rows]
        found["order"] = [row["order"] if row["order"] is not None else -np.inf for row in rows]
        return found[np.lexsort((found["row"], found["shard"]))]


_PLACE = np.dtype([("shard", "<u4"), ("row", "<u4"), ("order", "<f8")])


def relation(data: Data, table: Table, shards: Sequence[str], text: str) -> tuple[str, list[list[str]]]:
    """(SQL, files) of the rows of these shards: filename, row, and each column that is named in `text`."""
    named = set(IDENTIFIER.findall(text))
    own = [name for name in table.columns if name in named and name != PICTURE]
    beside = [(folder, [name for name in names if name in named]) for folder, names in table.beside]
    beside = [(folder, names) for folder, names in beside if names]
    if beside and "image_id" not in own:
        own.append("image_id")
    columns = ", ".join(["filename", 'file_row_number AS "row"', *(f'"{name}"' for name in own)])
    sql = f"SELECT {columns} FROM {NUMBERED}"
    values = [[str(table.folder.here(name)) for name in shards]]
    for number, (folder, names) in enumerate(beside):
        files, condition = _files(folder, shards)
        chosen = ", ".join(f'"{name}"' for name in ("image_id", *names))
        more = f"SELECT {chosen} FROM read_parquet(?) WHERE {condition}"
        sql = f"SELECT * FROM ({sql}) LEFT JOIN ({more}) t{number} USING (image_id)"
        values.append(files)
    return sql, values


def _files(folder: Folder, shards: Sequence[str]) -> tuple[list[str], str]:
    """The files of a table beside, and a condition. One that is not finished may have none of these shards."""
    files = [str(folder.here(name)) for name in shards if folder.here(name).exists()]
    return (files, "true") if files else ([str(folder.here(folder.shards[0].name))], "false")


@dataclass
class Scans:
    """The latest scans, so that the pages of one selection share one."""

    most: int = 6
    _known: OrderedDict[tuple[Path, str, str, str], Scan] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, data: Data, table: Table, condition: str, order: str) -> Scan:
        key = (data.root, table.stage, condition, order)
        with self._lock:
            if key not in self._known:
                self._known[key] = Scan(data, table, condition, order)
            self._known.move_to_end(key)
            while len(self._known) > self.most:
                self._known.popitem(last=False)[1].cancelled = True
            return self._known[key]

    def close(self) -> None:
        """Stop all scans."""
        for scan in self._known.values():
            scan.close()
