"""Lint, part 7: features that lie at another row. A detector's classes follow from its features, so they have to fit.

A class head is linear in the features, so vectors of one class lie together, and no other table is needed to see it. It
tells nothing of rows of few regions or of the same classes, nor of a shard whose features do not show their classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from inspection.columns import Array, Numbers, flat_blob
from inspection.lint.shard import Shard, counts, repeat_rows

Floats = npt.NDArray[np.float32]
DIMS = 256  # the first numbers of a vector, which show its class well enough
FEWEST_REGIONS = 4  # of a row: of one or two regions the detector itself may be unsure
FEWEST_ROWS = 20
CLEAR = 3.0  # standard deviations between rows with their own classes and rows with those of another


def check_swapped(shard: Shard, features: pa.ChunkedArray, dtype: str) -> None:
    """Rows whose features fit the classes of another row of the shard, which does not have its own either."""
    width, numbers = int(shard.metadata["feature_width"]), counts(shard.table)
    if not width:
        return
    vectors_RD = flat_blob(features, dtype).reshape(-1, width)
    found = swapped_rows(vectors_RD, flat_blob(shard.table["class_ids"], "<u2"), numbers)
    rows = np.array(sorted(found), np.int64)
    shard.bad("swapped", rows, lambda i: f"its features fit the classes of row {found[int(rows[i])]}, not its own")


def swapped_rows(vectors_RD: Array, classes_R: Array, numbers_N: Numbers) -> dict[int, int]:
    """Of each such row, another one whose classes its features fit. D: numbers of a feature; N: rows, of R regions."""
    if (numbers_N >= FEWEST_REGIONS).sum() < FEWEST_ROWS:
        return {}
    known = Known.of(vectors_RD, classes_R, numbers_N)
    own_N, foreign_N = known.own(), known.foreign()
    told = np.flatnonzero((numbers_N >= FEWEST_REGIONS) & np.isfinite(own_N))
    if len(told) < FEWEST_ROWS:
        return {}
    middle, foreign = float(np.median(own_N[told])), float(np.nanmedian(foreign_N[told]))
    deviation = 1.4826 * float(np.median(np.abs(own_N[told] - middle)))  # swapped rows hardly change medians
    if middle - foreign < CLEAR * deviation:
        return {}
    quarter = (middle - foreign) / 4
    low = told[own_N[told] < min(foreign + quarter, middle - CLEAR * deviation)].tolist()
    found = {}
    for i in low:
        fits = {j: known.fit(i, j) for j in low if i != j and numbers_N[i] == numbers_N[j]}
        best = max(fits, key=fits.__getitem__, default=i)
        if best != i and fits[best] > middle - quarter:
            found[i] = best
    # Rows that change places are a ring: whose place a row has, has not its own either. By chance that is not so.
    while missing := [i for i, j in found.items() if j not in found]:
        found = {i: j for i, j in found.items() if i not in missing}
    return found


@dataclass(frozen=True)
class Known:
    """Unit vectors of all regions, and of each class their sum."""

    unit_RD: Floats
    place_R: Numbers  # of a region's class in the sums
    sums_CD: Floats
    numbers_N: Numbers

    @classmethod
    def of(cls, vectors_RD: Array, classes_R: Array, numbers_N: Numbers) -> Known:
        part_RD = vectors_RD[:, :DIMS].astype(np.float32)
        part_RD -= part_RD.mean(axis=0)  # what all have in common says nothing
        part_RD /= np.maximum(np.linalg.norm(part_RD, axis=1, keepdims=True), 1e-6)
        _, place_R = np.unique(classes_R, return_inverse=True)
        order_R = np.argsort(place_R, kind="stable")
        starts = np.flatnonzero(np.diff(place_R[order_R], prepend=-1))
        return cls(part_RD, place_R, np.add.reduceat(part_RD[order_R], starts, axis=0), numbers_N)

    def own(self) -> Floats:
        """How well the regions of each row fit their classes, as those of other regions are; NaN without such."""
        own_RD = self.sums_CD[self.place_R] - self.unit_RD
        return self._by_row(_agreement(self.unit_RD, own_RD))

    def foreign(self) -> Floats:
        """As `own`, with the classes of other rows."""
        other_R = np.roll(self.place_R, len(self.place_R) // 2)
        return self._by_row(_agreement(self.unit_RD, self.sums_CD[other_R]))

    def fit(self, row: int, other: int) -> float:
        """How well the features of a row fit the classes of another, of as many regions."""
        starts = np.cumsum(self.numbers_N) - self.numbers_N
        features, classes = (slice(starts[each], starts[each] + self.numbers_N[each]) for each in (row, other))
        return float(np.mean(_agreement(self.unit_RD[features], self.sums_CD[self.place_R[classes]])))

    def _by_row(self, values_R: Floats) -> Floats:
        there_R = np.isfinite(values_R)
        rows_R, size = repeat_rows(self.numbers_N), len(self.numbers_N)
        sums_N = np.bincount(rows_R, np.where(there_R, values_R, 0), size)
        counts_N = np.bincount(rows_R, there_R, size)
        return np.where(counts_N > 0, sums_N / np.maximum(counts_N, 1), np.nan).astype(np.float32)


def _agreement(unit_RD: Floats, sums_RD: Floats) -> Floats:
    """Cosines; NaN where a sum is of nothing."""
    norms_R = np.linalg.norm(sums_RD, axis=1)
    found_R = (unit_RD * sums_RD).sum(axis=1) / np.maximum(norms_R, 1e-6)
    return np.where(norms_R > 1e-3, found_R, np.nan).astype(np.float32)
