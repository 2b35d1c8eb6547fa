"""What lint finds: one problem with its file, row, value and cure. Many of a kind are shown as a few and a count."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pairloom.store.folder import rebuild

SHOWN = 5  # rows named for each kind of problem in a file. The last one counts the others


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong. check: its kind, for machines; row: counted from 0 in the file, None for all of it."""

    check: str
    what: str
    file: str
    row: int | None
    fix: str

    def __str__(self) -> str:
        where = self.file if self.row is None else f"{self.file} row {self.row}"
        return f"{where}: {self.what}\n  fix: {self.fix}"

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class Findings:
    """Collects problems in the order in which they are found."""

    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what was looked at in part, and by which rule

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def file(self, check: str, file: Path, what: str, fix: str) -> None:
        """A problem of a whole file or folder."""
        self.problems.append(Problem(check, what, str(file), None, fix))

    def rows(self, check: str, file: Path, bad: Iterable[int], describe: Callable[[int], str], fix: str = "") -> None:
        """A problem of some rows of a shard. describe(i): what is wrong, for the i-th of `bad`."""
        rows = [int(row) for row in bad]
        first = np.unique(np.array(rows, np.int64), return_index=True)[1]  # one line a row is enough
        for count, i in enumerate(first[:SHOWN], start=1):
            others = len(first) - SHOWN if count == SHOWN else 0
            what = describe(int(i)) + (f" (and {others:,} more rows like it)" if others > 0 else "")
            self.problems.append(Problem(check, what, str(file), rows[i], fix or rebuild(file)))

    def named(self, check: str, file: Path, bad: Sequence[tuple[int, str]]) -> None:
        """A problem of some rows, each as (row, what is wrong)."""
        self.rows(check, file, [row for row, _ in bad], lambda i: bad[i][1])
