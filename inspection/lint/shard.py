"""One shard as lint sees it, and the checks that many columns share: whole columns at once, never a loop over rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from inspection.columns import Array, Numbers, is_finite
from inspection.lint.problem import Findings
from pairloom.store.folder import rebuild


@dataclass(frozen=True)
class Shard:
    """A shard's columns but the heavy ones, its file and its metadata. `rows` below: the row of each flat value."""

    file: Path
    table: pa.Table
    metadata: Mapping[str, str]
    findings: Findings
    decoded: int = 1  # pictures are decoded whose id is a multiple of this

    @property
    def made_by(self) -> Mapping[str, Any]:
        """What the file says of its making (table, stage, config …). Empty if it says nothing."""
        found = json.loads(self.metadata.get("pairloom", "{}"))
        return found if isinstance(found, dict) else {}

    @property
    def cure(self) -> str:
        return rebuild(self.file)

    def bad(self, check: str, rows: Numbers, describe: Callable[[int], str]) -> None:
        self.findings.rows(check, self.file, rows, describe)

    def finite(self, name: str, numbers: Array, rows: Numbers) -> None:
        bad = np.flatnonzero(~is_finite(numbers))
        self.bad("not-finite", rows[bad], lambda i: f"{name} is {numbers[bad[i]]}")

    def in_range(self, name: str, numbers: Array, rows: Numbers, low: float, high: float) -> None:
        """NaN is left to `finite`."""
        bad = np.flatnonzero((numbers < low) | (numbers > high))
        self.bad("range", rows[bad], lambda i: f"{name} is {numbers[bad[i]]}, it should be from {low:g} to {high:g}")

    def descending(self, name: str, numbers: Array, groups: Numbers, rows: Numbers) -> None:
        """groups: values are compared only with others of the same group, such as a row."""
        bad = 1 + np.flatnonzero((numbers[1:] > numbers[:-1]) & (groups[1:] == groups[:-1]))
        self.bad(
            "order",
            rows[bad],
            lambda i: f"{name} rises from {numbers[bad[i] - 1]} to {numbers[bad[i]]}: best comes first",
        )

    def texts(self, name: str, structs: pa.Array, rows: Numbers) -> None:
        """No `text` of these structs is empty, or nothing but white space."""
        blank = pc.equal(pc.utf8_trim_whitespace(pc.struct_field(structs, "text")), "")
        bad = np.flatnonzero(blank.to_numpy(zero_copy_only=False))
        self.bad("empty", rows[bad], lambda _: f"a text of {name} is empty")


def counts(table: pa.Table) -> Numbers:
    """num_regions of each row, as a type that can be summed."""
    numbers: Numbers = table["num_regions"].to_numpy().astype(np.int64)
    return numbers


def repeat_rows(lengths: Numbers) -> Numbers:
    """The row of each flat value, from the number of values of each row."""
    return np.repeat(np.arange(len(lengths)), lengths)
