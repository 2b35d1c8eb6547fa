"""Which rows of two columns differ: nested lists and structs, packed numbers, and floats within a tolerance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from inspection.columns import blob_lengths, flat_blob

Rows = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Difference:
    """rows: of each row whether it differs; largest: of the numbers that do, inf where a value is no number."""

    rows: Rows
    largest: float = 0.0


def differing(some: pa.Array, others: pa.Array, tolerance: float = 0.0) -> Difference:
    """Compare two arrays of equal type and length, value by value. Null equals null, and NaN equals NaN.

    tolerance: floats are equal where |a − b| ≤ tolerance · max(1, |a|, |b|).
    """
    kind = some.type
    if pa.types.is_map(kind):  # of pairloom 0.1.0
        pairs = zip(some.to_pylist(), others.to_pylist(), strict=True)
        return Difference(np.array([one != other for one, other in pairs], bool))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _lists(some, others, tolerance)
    if pa.types.is_struct(kind):
        return _structs(some, others, tolerance)
    if pa.types.is_floating(kind):
        return _numbers(some.to_numpy(zero_copy_only=False), others.to_numpy(zero_copy_only=False), tolerance)
    unequal = pc.fill_null(pc.not_equal(some, others), False).to_numpy(zero_copy_only=False)
    return Difference(unequal | _one_null(some, others))


def differing_blobs(
    some: pa.Array, others: pa.Array, types: tuple[np.dtype[Any], np.dtype[Any]], tolerance: float = 0.0
) -> Difference:
    """The same for packed numbers of these types: a row differs by the count of its numbers or by one of them."""
    rows = differing(some, others).rows | (types[0] != types[1])
    places = np.flatnonzero(rows)
    one, other = (array.take(pa.array(places)) for array in (some, others))
    counts = [
        blob_lengths(pc.fill_null(array, b"")) // kind.itemsize for array, kind in zip((one, other), types, strict=True)
    ]
    alike = (counts[0] == counts[1]) & ~_one_null(one, other)
    rows[places[alike]] = False
    kept = [pc.fill_null(array.filter(pa.array(alike)), b"") for array in (one, other)]
    flat = [flat_blob(array, kind.str) for array, kind in zip(kept, types, strict=True)]
    numbers = _numbers(flat[0], flat[1], tolerance)
    of_row = np.repeat(places[alike], counts[0][alike])
    rows[of_row[numbers.rows]] = True
    return Difference(rows, numbers.largest)


def _lists(some: pa.Array, others: pa.Array, tolerance: float) -> Difference:
    lengths = [pc.fill_null(pc.list_value_length(array), -1).to_numpy(zero_copy_only=False) for array in (some, others)]
    rows = lengths[0] != lengths[1]
    alike = np.flatnonzero(~rows)
    one, other = (array.take(pa.array(alike)) for array in (some, others))
    items = differing(pc.list_flatten(one), pc.list_flatten(other), tolerance)
    parents = pc.list_parent_indices(one).to_numpy(zero_copy_only=False)
    rows[alike[parents[items.rows]]] = True
    return Difference(rows, items.largest)


def _structs(some: pa.Array, others: pa.Array, tolerance: float) -> Difference:
    rows, largest = _one_null(some, others), 0.0
    for field in some.type:
        found = differing(pc.struct_field(some, field.name), pc.struct_field(others, field.name), tolerance)
        rows, largest = rows | found.rows, max(largest, found.largest)
    return Difference(rows, largest)


def _numbers(some: npt.NDArray[Any], others: npt.NDArray[Any], tolerance: float) -> Difference:
    if some.dtype.kind != "f" and others.dtype.kind != "f":
        return Difference(some != others)  # ids and counts: a distance between them says nothing
    rows: Rows = (some != others) & ~(np.isnan(some) & np.isnan(others))
    places = np.flatnonzero(rows)
    one, other = some[places].astype(np.float64), others[places].astype(np.float64)
    with np.errstate(invalid="ignore"):
        distance = np.nan_to_num(np.abs(one - other), nan=np.inf, posinf=np.inf)
        within = distance <= tolerance * np.maximum(1, np.maximum(np.abs(one), np.abs(other)))
    within &= np.isfinite(distance)
    rows[places[within]] = False
    return Difference(rows, float(distance[~within].max(initial=0)))


def _one_null(some: pa.Array, others: pa.Array) -> Rows:
    rows: Rows = pc.xor(some.is_null(), others.is_null()).to_numpy(zero_copy_only=False)
    return rows
