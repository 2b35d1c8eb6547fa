"""Column `extra`: what goes in comes out, of tables of today and of maps in older ones."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from pairloom.extra import EXTRA, as_dict, as_extra

VALUES = st.dictionaries(st.text(max_size=9), st.text(max_size=9), max_size=4)


@given(rows=st.lists(VALUES, max_size=4))
def test_values_come_back_from_this_table_and_from_an_older_one(rows: list[dict[str, str]]) -> None:
    today = pa.array([as_extra(row) for row in rows], EXTRA)
    older = pa.array([list(row.items()) for row in rows], pa.map_(pa.string(), pa.string()))
    assert [as_dict(row) for row in today.to_pylist()] == rows
    assert [as_dict(row) for row in older.to_pylist()] == rows


def test_no_value_is_an_empty_dictionary() -> None:
    assert as_dict(None) == as_dict([]) == {}
