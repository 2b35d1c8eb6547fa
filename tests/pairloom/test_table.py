"""Columns of packed numbers."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from pairloom.table import Array, blob

ROWS = st.lists(
    st.tuples(array_shapes(min_dims=1, max_dims=2, min_side=0, max_side=4), st.booleans()).flatmap(
        lambda drawn: arrays(np.float64 if drawn[1] else np.int64, drawn[0], elements=st.integers(0, 100))
    ),
    max_size=5,
)


@given(rows=ROWS, dtype=st.sampled_from(["<f2", "<f4", "<u2", "u1"]))
def test_a_column_of_blobs_is_each_rows_numbers_by_themselves(rows: list[Array], dtype: str) -> None:
    kind = blob(dtype, "n")
    packed = kind.pack([row.T for row in rows])  # not contiguous where it has two dimensions
    packed.validate(full=True)
    assert packed.type == kind.type
    assert packed.to_pylist() == [np.ascontiguousarray(row.T, dtype=dtype).tobytes() for row in rows]
    assert [values.tolist() for values in kind.unpack(packed)] == [row.T.ravel().tolist() for row in rows]
