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
from inspection.lint.shard import Shard, counts

Floats = npt.NDArray[np.float32]
DIMS = 256  # the first numbers of a vector, which show its class well enough
FEWEST_REGIONS = 4  # of a row: of one or two regions the detector itself may be unsure
FEWEST_KNOWN = 3  # regions of a row whose class other rows have, too
FEWEST_ROWS = 20
MOST_ROWS = 100  # that fit their own classes worst, and are compared with each other
# In standard deviations of how well rows fit their own classes:
CLEAR = 3.0  # how far rows with the classes of others are from that, at least
FAR = 2.0  # how much worse than most a row fits its own classes, and by how much it may fit another's worse than most
BETTER = 3.0  # how much better it fits another's


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
    enough_N = numbers_N >= FEWEST_REGIONS
    if enough_N.sum() < FEWEST_ROWS:
        return {}
    known = Known.of(vectors_RD, classes_R, numbers_N)
    own_N = np.array([known.fit(row, row, (row,)) if enough else np.nan for row, enough in enumerate(enough_N)])
    told = np.flatnonzero(np.isfinite(own_N))
    if len(told) < FEWEST_ROWS:
        return {}
    middle = float(np.median(own_N[told]))
    deviation = 1.4826 * float(np.median(np.abs(own_N[told] - middle)))  # swapped rows hardly change medians
    if middle - known.foreign() < CLEAR * deviation:
        return {}
    low = told[np.argsort(own_N[told], kind="stable")][:MOST_ROWS]
    return _ring(known, low[own_N[low] < middle - FAR * deviation].tolist(), middle - FAR * deviation, deviation)


def _ring(known: Known, low: list[int], least: float, deviation: float) -> dict[int, int]:
    """Rows of these that have changed places. They are a ring: whose place a row has, has not its own either."""
    found = {}
    for row in low:
        gains = {}
        for other in low:
            if other == row or known.numbers_N[other] != known.numbers_N[row]:
                continue
            there = known.fit(row, other, (row, other))
            gain = there - known.fit(row, row, (row, other))
            if there > least and gain > BETTER * deviation:
                gains[other] = gain
        if gains:
            found[row] = max(gains, key=gains.__getitem__)
    while missing := [row for row, other in found.items() if other not in found]:
        found = {row: other for row, other in found.items() if row not in missing}
    return found


@dataclass(frozen=True)
class Known:
    """Unit vectors of all regions, and of each class their sum."""

    unit_RD: Floats
    place_R: Numbers  # of a region's class in the sums
    sums_CD: Floats
    counts_C: Numbers
    numbers_N: Numbers
    starts_N: Numbers

    @classmethod
    def of(cls, vectors_RD: Array, classes_R: Array, numbers_N: Numbers) -> Known:
        part_RD = vectors_RD[:, :DIMS].astype(np.float32)
        part_RD -= part_RD.mean(axis=0)  # what all have in common says nothing
        part_RD /= np.maximum(np.linalg.norm(part_RD, axis=1, keepdims=True), 1e-6)
        _, place_R, counts_C = np.unique(classes_R, return_inverse=True, return_counts=True)
        order_R = np.argsort(place_R, kind="stable")
        sums_CD = np.add.reduceat(part_RD[order_R], np.cumsum(counts_C) - counts_C, axis=0)
        return cls(part_RD, place_R, sums_CD, counts_C, numbers_N, np.cumsum(numbers_N) - numbers_N)

    def fit(self, row: int, other: int, without: tuple[int, ...]) -> float:
        """How well the features of a row fit the classes of another, of as many regions: the mean cosine.

        A class is what the regions of all rows but `without` show. NaN where these leave too few classes.
        """
        classes = self.place_R[self._regions(other)]
        sums, counts = self.sums_CD[classes], self.counts_C[classes]
        for left_out in without:
            theirs = self._regions(left_out)
            same = classes[:, None] == self.place_R[theirs]
            sums, counts = sums - same.astype(np.float32) @ self.unit_RD[theirs], counts - same.sum(axis=1)
        there = np.flatnonzero(counts > 0)
        if len(there) < FEWEST_KNOWN:
            return float("nan")
        return float(np.mean(_cosines(self.unit_RD[self._regions(row)][there], sums[there])))

    def foreign(self) -> float:
        """The median of how well regions fit the classes of other rows."""
        other_R = np.roll(self.place_R, len(self.place_R) // 2)
        return float(np.median(_cosines(self.unit_RD, self.sums_CD[other_R])))

    def _regions(self, row: int) -> slice:
        return slice(self.starts_N[row], self.starts_N[row] + self.numbers_N[row])


def _cosines(unit_RD: Floats, sums_RD: Floats) -> Floats:
    found: Floats = (unit_RD * sums_RD).sum(axis=1) / np.maximum(np.linalg.norm(sums_RD, axis=1), 1e-6)
    return found
