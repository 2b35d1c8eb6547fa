"""A list read forward in pieces of any number of rows, each with the bad rows among and right after its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa

from formats.lists.urls import BadRow, Part
from schemas.urls import URLS


class ListStream:
    """The parts of a list, cut anew. It holds one part and what was put back."""

    def __init__(self, parts: Iterable[Part]) -> None:
        self._parts = iter(parts)
        self._rows = URLS.empty()
        self._bad: list[BadRow] = []
        self.taken = 0  # rows so far

    def more(self) -> bool:
        """Whether there is a row left."""
        while not self._rows.num_rows:
            part = next(self._parts, None)
            if part is None:
                return False
            self._add(part)
        return True

    def take(self, rows: int) -> Part:
        """The next rows, fewer at the end of the list. A bad row belongs to the good row before it."""
        while self._rows.num_rows < rows:
            part = next(self._parts, None)
            if part is None:
                break
            self._add(part)
        taken, self._rows = self._rows.slice(0, rows), self._rows.slice(rows)
        self.taken += taken.num_rows
        bad = tuple(row for row in self._bad if row.after <= self.taken)
        self._bad = self._bad[len(bad) :]
        return Part(taken.combine_chunks(), bad)

    def rest(self) -> Iterator[Part]:
        """All that is left, in the parts that it came in."""
        while self.more():
            yield self.take(self._rows.num_rows)

    def put_back(self, part: Part) -> None:
        """Undo the last `take`."""
        self._rows = pa.concat_tables([part.rows, self._rows])
        self._bad = [*part.bad, *self._bad]
        self.taken -= part.rows.num_rows

    def _add(self, part: Part) -> None:
        self._rows = pa.concat_tables([self._rows, part.rows])
        self._bad += part.bad
