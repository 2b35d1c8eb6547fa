"""What training rows hold in the place of a table that was left out of them: no regions, no tags, no negatives."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pairloom.layout import LEFT_OUT
from pairloom.table import Blob, Column, Table
from schemas.negatives import NEGATIVES
from schemas.regions import REGIONS
from schemas.shards import TWICE
from schemas.tags import TAGS

TABLES = {"regions": REGIONS, "tags": TAGS, "negatives": NEGATIVES}
NO_DETECTOR = {
    **dict.fromkeys(REGIONS.metadata, ""),
    **dict.fromkeys(("feature_width", "prob_width", "grid_side"), "0"),
    **dict.fromkeys(("feature_dtype", "grid_dtype"), "<f2"),
    **dict.fromkeys(("classes", "attributes"), "[]"),
    "order": "score",
}


def stand_in(name: str, curate: pa.Table) -> pa.Table:
    """Rows of the table `name` for the images of `curate`, each without regions, without tags, or without negatives."""
    table = TABLES[name]
    captions = pc.list_value_length(curate["captions"]).to_pylist() if table is NEGATIVES else []
    columns = {
        column.name: curate[column.name]
        if column.name in curate.column_names
        else _nothing(column, curate.num_rows, captions)
        for column in table.columns
    }
    return table.table(**columns)


def notes_on(left_out: Iterable[str]) -> dict[str, str]:
    """The file's metadata: by table the columns that hold nothing, and that there is no detector."""
    columns = {name: _own_columns(TABLES[name]) for name in left_out}
    return {LEFT_OUT: json.dumps(columns), **(NO_DETECTOR if "regions" in columns else {})} if columns else {}


def _own_columns(table: Table) -> list[str]:
    return [column.name for column in table.columns if column.name not in TWICE]


def _nothing(column: Column, rows: int, captions: list[int]) -> pa.Array | None:
    """One value a row; captions: of each row how many, where the column has a value for each of them."""
    if column.nullable:
        return None
    if isinstance(column.type, Blob):
        return pa.array([b""] * rows, column.type.type)
    if not pa.types.is_list(column.type):
        return pa.array([0] * rows, column.type)
    one: Any = [] if pa.types.is_list(column.type.value_type) else 0
    return pa.array([[one] * count for count in captions] if captions else [[]] * rows, column.type)
