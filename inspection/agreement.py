"""How far regions agree with those that the original code wrote for the same picture.

Letters: N regions of the original, M of ours, D feature width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from formats.golden import Golden
from pairloom.boxes import iou

Array = npt.NDArray[Any]
SAME_BOX = 0.9  # IoU from which two boxes are the same region
# What "equal" may differ by: GPU and CPU, and other versions of a library, do not round alike.
LIMITS = {"boxes": 0.5, "features": 0.02, "objects_conf": 0.01, "attrs_conf": 0.01}  # pixels, share of the length


@dataclass(frozen=True)
class Ours:
    """The same picture's regions by this project."""

    boxes: Array  # (M, 4), pixels of the stored picture
    features: Array  # (M, D)
    columns: Mapping[str, Array]  # named as the original's


@dataclass(frozen=True)
class Column:
    """One column over all regions that are in both."""

    name: str
    regions: int  # compared
    equal: float  # share of them that agree within the limit
    mean: float  # difference; of ids the share that differs
    largest: float


def matches(golden: Array, ours: Array) -> tuple[Array, Array]:
    """Rows (in the original, in ours) of the boxes that are the same region, each at most once, best pair first."""
    overlap = iou(golden, ours)
    pairs: list[tuple[int, int]] = []
    for place in np.argsort(-overlap, axis=None, kind="stable"):
        row, column = divmod(int(place), len(ours))
        if overlap[row, column] < SAME_BOX:
            break
        if all(row != one and column != other for one, other in pairs):
            pairs.append((row, column))
    found = np.array(sorted(pairs), np.int64).reshape(-1, 2)
    return found[:, 0], found[:, 1]


def differences(golden: Golden, ours: Ours) -> dict[str, Array]:
    """For each column its difference in each matched region. `rows` is 0 where both have it in one place, else 1."""
    rows, places = matches(golden.boxes.astype(np.float64), ours.boxes.astype(np.float64))
    theirs, own = golden.features[rows].astype(np.float64), ours.features[places].astype(np.float64)
    length = np.maximum(np.linalg.norm(theirs, axis=1), 1e-12)
    found = {
        "rows": (rows != places).astype(np.float64),
        "boxes": np.abs(golden.boxes[rows] - ours.boxes[places]).max(axis=1, initial=0),
        "features": np.linalg.norm(theirs - own, axis=1) / length,
    }
    for name, values in golden.columns.items():
        if name in ours.columns:
            one, other = values[rows], ours.columns[name][places]
            found[name] = (one != other).astype(np.float64) if name.endswith("_id") else np.abs(one - other)
    return found


def columns(found: Sequence[Mapping[str, Array]]) -> list[Column]:
    """The differences of many pictures, by column."""
    names = list(dict.fromkeys(name for each in found for name in each))
    merged = {name: np.concatenate([each[name] for each in found if name in each]) for name in names}
    return [
        Column(
            name=name,
            regions=len(values),
            equal=float((values <= LIMITS.get(name, 0)).mean()) if len(values) else 0.0,
            mean=float(values.mean()) if len(values) else 0.0,
            largest=float(values.max(initial=0)),
        )
        for name, values in merged.items()
    ]
