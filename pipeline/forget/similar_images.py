"""Take forgotten pictures out of other rows' column `neighbours`, with the features and boxes of their regions."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.forget.wanted import Wanted

LIST, REGIONS, BLOBS = "neighbours", "neighbour_regions", ("neighbour_boxes", "neighbour_features")
READ = f"{LIST}.list.element.image_id"  # as Parquet names it


def has_any(table: pa.Table, wanted: Wanted) -> bool:
    """Whether a row shows one of these pictures."""
    if LIST not in table.column_names:
        return False
    shown = pc.struct_field(pc.list_flatten(table[LIST]), "image_id")
    return bool(pc.any(pc.is_in(shown, value_set=pa.array(wanted.images, pa.binary(16)))).as_py())


def without(table: pa.Table, wanted: Wanted) -> pa.Table:
    """The table whose rows show none of these pictures. All other rows keep their bytes."""
    if not has_any(table, wanted):
        return table
    gone, columns = set(wanted.images), (LIST, REGIONS, *BLOBS)
    rows = [_without(row, gone) for row in table.select(list(columns)).to_pylist()]
    for name in columns:
        values = pa.array([row[name] for row in rows], table.schema.field(name).type)
        table = table.set_column(table.schema.get_field_index(name), table.schema.field(name), values)
    return table


def _without(row: dict[str, Any], gone: set[bytes]) -> dict[str, Any]:
    if not any(one["image_id"] in gone for one in row[LIST] or ()):
        return row
    kept, blobs, place = [], dict.fromkeys(BLOBS, b""), 0
    sizes = {name: len(row[name]) // max(row[REGIONS], 1) for name in BLOBS}  # bytes of a region
    for one in row[LIST]:
        end = place + one["num_regions"]
        if one["image_id"] not in gone:
            kept.append(one)
            blobs = {name: blobs[name] + row[name][place * size : end * size] for name, size in sizes.items()}
        place = end
    return {LIST: kept, REGIONS: sum(one["num_regions"] for one in kept), **blobs}
