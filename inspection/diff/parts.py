"""What changed inside rows that differ: boxes that moved, by their overlap, and lists of negatives."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from inspection.columns import Array, ids, struct_field
from inspection.diff.values import differing
from pairloom.boxes import iou

SAME_REGION = 0.5  # overlap from which two boxes, each the other's best, are one region that moved
STEPS = (0.9, 0.75, SAME_REGION)  # overlaps by which moved boxes are counted


@dataclass
class Boxes:
    """Regions of the images whose boxes differ, as both sides have them."""

    images: int = 0  # whose boxes differ
    equal: int = 0  # boxes that are the same in both
    moved: dict[str, int] = field(default_factory=lambda: {f"iou ≥ {step}": 0 for step in STEPS})
    removed: int = 0
    added: int = 0
    renamed: int = 0  # equal or moved, with another class
    overlap: float = 0.0  # sum of the overlaps of those that moved

    def add(self, some: Array, others: Array, classes: tuple[Array, Array]) -> None:
        """One image: boxes (N, 4) and (M, 4), with the class of each."""
        mine, theirs, overlaps = partners(some, others)
        same = (some[mine] == others[theirs]).all(axis=1)
        self.images += 1
        self.equal += int(same.sum())
        self.removed += len(some) - len(mine)
        self.added += len(others) - len(theirs)
        self.renamed += int((classes[0][mine] != classes[1][theirs]).sum())
        self.overlap += float(overlaps[~same].sum())
        for value in overlaps[~same].tolist():
            self.moved[next(f"iou ≥ {step}" for step in STEPS if value >= step)] += 1

    def told(self) -> dict[str, Any]:
        moved = sum(self.moved.values())
        mean = self.overlap / moved if moved else None
        return {
            "images": self.images, "equal": self.equal, "moved": moved, "mean_iou_of_moved": mean,
            "moved_by_iou": self.moved, "only_a": self.removed, "only_b": self.added, "renamed": self.renamed,
        }  # fmt: skip


def partners(some: Array, others: Array) -> tuple[Array, Array, Array]:
    """(rows of some, rows of others, overlap) of the boxes that overlap each other most, by SAME_REGION at least.

    Of equal overlaps the box at the same place counts more, then the first.
    """
    if not len(some) or not len(others):
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
    overlap = iou(some, others)
    preferred = overlap + 1e-9 * np.eye(*overlap.shape)
    best, back = preferred.argmax(axis=1), preferred.argmax(axis=0)
    rows = np.flatnonzero((back[best] == np.arange(len(some))) & (overlap.max(axis=1) >= SAME_REGION))
    return rows, best[rows], overlap[rows, best[rows]]


@dataclass
class Lists:
    """A column that holds a list of other captions for each caption: negatives or similar ones."""

    lists: int = 0  # of rows in both
    equal: int = 0  # the same captions in the same order
    members: int = 0  # of the lists of A
    shared: int = 0  # that the list of B has, too

    def add_equal(self, both: pa.Array) -> None:
        """Rows that are the same on both sides."""
        lists, members = len(pc.list_flatten(both)), len(pc.list_flatten(pc.list_flatten(both)))
        self.lists, self.equal = self.lists + lists, self.equal + lists
        self.members, self.shared = self.members + members, self.shared + members

    def add(self, some: pa.Array, others: pa.Array) -> None:
        """The same rows of both sides."""
        lengths = [
            pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False) for array in (some, others)
        ]
        self.lists += int(lengths[0].sum())
        alike = pa.array(lengths[0] == lengths[1])
        self.members += len(pc.list_flatten(pc.list_flatten(some)))
        one, other = (pc.list_flatten(array.filter(alike)) for array in (some, others))
        names = [pc.list_flatten(array) for array in (one, other)]
        same_length = pc.equal(pc.list_value_length(one), pc.list_value_length(other)).to_numpy(zero_copy_only=False)
        kept = [pc.list_flatten(array.filter(pa.array(same_length))) for array in (one, other)]
        unequal = np.zeros(len(kept[0]), bool)
        for key in ("image_id", "caption_index"):
            unequal |= differing(*(pc.struct_field(array, key) for array in kept)).rows
        owners = pc.list_parent_indices(one.filter(pa.array(same_length))).to_numpy(zero_copy_only=False)
        self.equal += int(same_length.sum()) - len(np.unique(owners[unequal]))
        keys = [
            _members(array, pc.list_parent_indices(lists)) for array, lists in zip(names, (one, other), strict=True)
        ]
        self.shared += len(np.intersect1d(keys[0], keys[1]))

    def told(self) -> dict[str, Any]:
        return vars(self) | {
            "equal_share": self.equal / self.lists if self.lists else None,
            "shared_share": self.shared / self.members if self.members else None,
        }


def _members(negatives: pa.Array, owners: pa.Array) -> Array:
    """One key for each member: its image, its caption, and the list that it is in."""
    parts = np.empty(len(negatives), [("id", "S16"), ("caption", ">u4"), ("list", ">u8")])
    parts["id"] = ids(pc.struct_field(negatives, "image_id"))
    parts["caption"] = struct_field(negatives, "caption_index")
    parts["list"] = owners.to_numpy(zero_copy_only=False)
    return parts.view("S28")
