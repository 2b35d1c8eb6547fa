"""Rows that are in both tables, compared column by column, and what is counted on the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from inspection.columns import Array
from inspection.diff.parts import Boxes, Lists
from inspection.diff.values import Difference, differing, differing_blobs
from pairloom.layout import BLOBS
from pairloom.store.folder import Folder
from schemas.negatives import NEGATIVE

EXAMPLES = 5  # keys named of each kind
LISTS = pa.list_(pa.list_(NEGATIVE))
Columns = Callable[[str], pa.Array]  # name -> that column of one side's matched rows


@dataclass(frozen=True)
class Sides:
    """Two tables of the same name, and how they are compared."""

    some: Folder
    others: Folder
    key: tuple[str, ...]
    tolerance: float
    types: tuple[dict[str, pa.DataType], dict[str, pa.DataType]]  # of the columns in their files
    metadata: tuple[dict[str, str], dict[str, str]]

    @property
    def compared(self) -> list[str]:
        """Columns that both have. Not the picture: its image_id is the hash of its bytes."""
        mine, theirs = self.types
        return [name for name in mine if mine[name] == theirs.get(name) and name not in (*self.key, "image")]

    @property
    def other_columns(self) -> dict[str, list[str | None]]:
        """Columns of one side alone, or of another type there: its type in each."""
        mine, theirs = self.types
        names = [name for name in mine | theirs if mine.get(name) != theirs.get(name)]
        return {name: [str(side[name]) if name in side else None for side in self.types] for name in names}


@dataclass
class Found:
    """What comparing the rows gave."""

    equal: int = 0
    changed: int = 0
    moved: int = 0  # of the rows in both: those that lie in another shard, or in another order there
    only_a: int = 0
    only_b: int = 0
    columns: dict[str, dict[str, Any]] = field(default_factory=dict)  # rows that differ, the largest distance
    examples: dict[str, list[str]] = field(default_factory=lambda: {"changed": [], "only_a": [], "only_b": []})
    boxes: Boxes = field(default_factory=Boxes)
    lists: dict[str, Lists] = field(default_factory=dict)

    @property
    def differ(self) -> bool:
        return bool(self.changed or self.moved or self.only_a or self.only_b)

    def name(self, kind: str, keys: Sequence[str]) -> None:
        self.examples[kind] += keys[: EXAMPLES - len(self.examples[kind])]

    def note(self, column: str, difference: Difference) -> None:
        if rows := int(difference.rows.sum()):
            before = self.columns.setdefault(column, {"rows": 0, "largest": 0.0})
            before["rows"] += rows
            before["largest"] = max(before["largest"], difference.largest)


def compare_rows(sides: Sides, some: Columns, others: Columns, count: int, found: Found) -> Array:
    """Which of so many matched rows differ. Their differences are counted."""
    changed = np.zeros(count, bool)
    for name in sides.compared if count else ():
        mine, theirs = some(name), others(name)
        if name in BLOBS and pa.types.is_large_binary(mine.type):
            types = tuple(BLOBS[name].number(metadata) for metadata in sides.metadata)
            difference = differing_blobs(mine, theirs, (types[0], types[1]), sides.tolerance)
        else:
            difference = differing(mine, theirs, sides.tolerance)
        found.note(name, difference)
        changed |= difference.rows
        if name == "boxes" and difference.rows.any():
            _count_boxes(np.flatnonzero(difference.rows), (mine, theirs), (some, others), found)
        if mine.type == LISTS:
            found.lists.setdefault(name, Lists()).add(mine, theirs)
    found.changed += int(changed.sum())
    found.equal += count - int(changed.sum())
    return changed


def _count_boxes(rows: Array, boxes: Sequence[pa.Array], sides: Sequence[Columns], found: Found) -> None:
    classes = [side("class_ids") for side in sides]
    for row in rows.tolist():
        here = [np.frombuffer(column[row].as_buffer(), "<f4").reshape(-1, 4) for column in boxes]
        named = [np.frombuffer(column[row].as_buffer(), "<u2") for column in classes]
        found.boxes.add(here[0], here[1], (named[0], named[1]))
