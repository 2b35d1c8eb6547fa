"""Pictures in the shards of MosaicML's streaming (MDS): samples one after another, each with the sizes of its columns.

A file holds the number of samples, the position of each and of the end (all uint32), a JSON object that names the
columns, and the samples: the sizes of those columns that have none of their own, then the values (streaming 0.7 to
0.13, base/format/mds/writer.py).
"""

from __future__ import annotations

import json
from itertools import accumulate
from typing import Any

import numpy as np

from formats.pictures.errors import SourceError, explained
from formats.pictures.roots import File

NUMBER = 4  # bytes of a uint32
PICTURES = ("jpeg", "png", "bytes")  # encodings whose bytes are those of a file


class Mds:
    """A shard whose values are asked for as `ROW/COLUMN`."""

    def __init__(self, name: str, file: File) -> None:
        self.file, self.name = file, name
        with explained(name):
            count = int(np.frombuffer(file.read(0, NUMBER), "<u4")[0])
            start = NUMBER * (count + 2)
            self._offsets = np.frombuffer(file.read(NUMBER, start - NUMBER), "<u4")
            if len(self._offsets) != count + 1 or not start <= self._offsets[0] <= file.size:
                raise ValueError("it is no MDS shard, or ends early")
            config: dict[str, Any] = json.loads(file.read(start, int(self._offsets[0]) - start))
            self.names: list[str] = config["column_names"]
            self.encodings = dict(zip(self.names, config["column_encodings"], strict=True))
            self._sizes: list[int | None] = config["column_sizes"]
        self.rows = count

    def place(self, name: str) -> tuple[int, str]:
        """(row, column). Raises SourceError not-found if there is no such row or column."""
        row, _, column = name.partition("/")
        if not (row.isascii() and row.isdigit() and int(row) < self.rows):
            raise SourceError("not-found", f"there is no row {row}: the file has {self.rows}")
        if self.encodings.get(column) not in PICTURES:
            said = ", ".join(f"{name} ({kind})" for name, kind in self.encodings.items())
            raise SourceError("not-found", f"{column!r} is no column of files of pictures; there are: {said}"[:300])
        return int(row), column

    def read(self, place: tuple[int, str]) -> bytes:
        return self.value(*place)

    def value(self, row: int, column: str) -> bytes:
        """A value as stored. Raises SourceError unreadable where the file ends before it."""
        start, place = int(self._offsets[row]), self.names.index(column)
        unsized = [number for number, size in enumerate(self._sizes) if size is None]
        head = self.file.read(start, NUMBER * len(unsized))
        with explained(self.name):
            own = iter(np.frombuffer(head, "<u4").tolist())
            sizes = [next(own, 0) if size is None else size for size in self._sizes]
            ends = list(accumulate(sizes, initial=start + NUMBER * len(unsized)))
            found = self.file.read(ends[place], sizes[place])
            if len(head) < NUMBER * len(unsized) or len(found) < sizes[place] or ends[-1] > self._offsets[row + 1]:
                raise ValueError(f"row {row} is cut off, or damaged")
        return found

    def close(self) -> None:
        self.file.close()
