"""Whole columns as flat numpy arrays, with the row that each value belongs to. Blobs and nested lists alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pairloom.table import Blob, Column

Array = npt.NDArray[Any]
Numbers = npt.NDArray[np.int64]


def flat_list(column: pa.ChunkedArray | pa.Array) -> tuple[pa.Array, Numbers]:
    """All items of a column of lists (of lists …), and the row of each."""
    values, rows = _whole(column), np.arange(len(column))
    while pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
        rows = rows[pc.list_parent_indices(values).to_numpy(zero_copy_only=False)]
        values = pc.list_flatten(values)
    return values, rows


def flat_blob(column: pa.ChunkedArray | pa.Array, dtype: str) -> Array:
    """The numbers of all rows of a blob column, one after the other. Each blob a whole number of them."""
    values = _whole(column)
    if not len(values):
        return np.zeros(0, dtype)
    _, offsets, data = values.buffers()
    ends = np.frombuffer(offsets, "<i8")[values.offset : values.offset + len(values) + 1]
    start, stop = int(ends[0]), int(ends[-1])
    if data is None or start == stop:
        return np.zeros(0, dtype)
    return np.frombuffer(data, "u1")[start:stop].view(dtype)


def blob_lengths(column: pa.ChunkedArray | pa.Array) -> Numbers:
    """The bytes of each row's blob."""
    lengths: Numbers = pc.binary_length(_whole(column)).to_numpy(zero_copy_only=False).astype(np.int64)
    return lengths


def wanted_lengths(kind: Blob, table: pa.Table, metadata: Mapping[str, str]) -> Numbers:
    """The bytes that each row's blob should have, from the shape in its schema.

    Raises KeyError with the name of a metadata key that is missing.
    """
    lengths: Numbers = np.full(table.num_rows, kind.number(metadata).itemsize, np.int64)
    for size in kind.shape:
        if isinstance(size, int):
            lengths = lengths * size
        elif size in table.column_names:
            lengths = lengths * table[size].to_numpy().astype(np.int64)
        else:
            lengths = lengths * int(metadata[size])
    return lengths


def float_leaves(column: Column, values: pa.ChunkedArray) -> Iterator[tuple[str, Array, Numbers]]:
    """(name, flat values, row of each) of every float inside a column: itself, or a field of its structs. No nulls."""
    if isinstance(column.type, Blob):
        return
    flat, rows = flat_list(values)
    if pa.types.is_floating(flat.type):
        there = flat.is_valid().to_numpy(zero_copy_only=False)
        yield column.name, flat.drop_null().to_numpy(zero_copy_only=False), rows[there]
    if pa.types.is_struct(flat.type):
        for field in flat.type:
            if pa.types.is_floating(field.type):
                yield f"{column.name}.{field.name}", struct_field(flat, field.name), rows


def struct_field(structs: pa.Array, name: str) -> Array:
    """One field of an array of structs. A null becomes NaN, None or -1 by its type."""
    values = pc.struct_field(structs, name)
    if pa.types.is_integer(values.type) and values.null_count:
        values = pc.fill_null(values.cast(pa.int64()), -1)
    array: Array = values.to_numpy(zero_copy_only=False)
    return array


def ids(column: pa.ChunkedArray | pa.Array) -> npt.NDArray[np.bytes_]:
    """A column of image_id as numpy's fixed-width bytes, which compare and sort as the bytes do."""
    values = _whole(column)
    if not len(values):
        return np.zeros(0, "S16")
    return np.frombuffer(values.buffers()[1], "S16")[values.offset : values.offset + len(values)]


def is_finite(numbers: Array) -> npt.NDArray[np.bool_]:
    """As np.isfinite, several times faster for float16: its exponent bits are not all set."""
    if numbers.dtype == np.dtype("<f2"):
        whole: npt.NDArray[np.bool_] = (numbers.view("<u2") & 0x7C00) != 0x7C00
        return whole
    finite: npt.NDArray[np.bool_] = np.isfinite(numbers)
    return finite


def _whole(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
