"""Boxes and names that a data set knows of its pictures, as table `truth`, written while its rows are read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from schemas.truth import TRUTH

ROWS = 1000  # that are written together


@dataclass(frozen=True)
class Thing:
    """An object in a picture; box: x1 y1 x2 y2, pixels of the picture as it is in the data set."""

    name: str
    box: tuple[float, float, float, float]
    attributes: tuple[str, ...] = ()


@dataclass
class Truths:
    """Writes a file. A data set without truth leaves none."""

    path: Path
    _rows: list[dict[str, Any]] = field(default_factory=list)
    _writer: pq.ParquetWriter | None = None

    def add(self, url: str, width: int, height: int, things: Iterable[Thing]) -> None:
        found = [{"name": t.name, "attributes": list(t.attributes), "box": list(t.box), "visible": 1.0} for t in things]
        self._rows.append({"url": url, "width": width, "height": height, "things": found, "relations": []})
        if len(self._rows) == ROWS:
            self._write()

    def close(self) -> None:
        if self._rows:
            self._write()
        if self._writer is not None:
            self._writer.close()

    def _write(self) -> None:
        columns: dict[str, Any] = {name: [row[name] for row in self._rows] for name in self._rows[0]}
        table = TRUTH.table(**columns)
        if self._writer is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = pq.ParquetWriter(self.path, table.schema)
        self._writer.write_table(table)
        self._rows = []
