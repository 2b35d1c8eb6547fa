"""Take rows out of one table in memory, and captions of forgotten pictures out of other rows' lists."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pairloom.table import Array
from pipeline.forget import similar_images
from pipeline.forget.wanted import Wanted

SHORT = "short"  # beside negatives: how many are missing


def hits(table: pa.Table, wanted: Wanted) -> bool:
    """Whether anything of the table is to be forgotten. It needs the columns of `looked_at`."""
    if wanted.rows(table).any() or similar_images.has_any(table, wanted):
        return True
    told = (pc.list_flatten(pc.list_flatten(table[name])) for name in _told(table.schema))
    return any(_forgotten(negatives, wanted).any() for negatives in told)


def looked_at(schema: pa.Schema) -> list[str]:
    """The columns that `hits` reads, as Parquet names them."""
    own = [name for name in ("image_id", "url") if name in schema.names]
    own += [similar_images.READ] if similar_images.LIST in schema.names else []
    return own + [f"{name}.list.element.list.element.image_id" for name in _told(schema)]


def _told(schema: pa.Schema) -> list[str]:
    """The columns that hold captions of other pictures: a list for each caption, of something with an image_id."""
    return [column.name for column in schema if _tells(column.type)]


def _tells(kind: pa.DataType) -> bool:
    if not (pa.types.is_list(kind) and pa.types.is_list(kind.value_type)):
        return False
    inner = kind.value_type.value_type
    return bool(pa.types.is_struct(inner)) and inner.get_field_index("image_id") >= 0


def without(table: pa.Table, wanted: Wanted) -> pa.Table:
    """The other rows, in order, whose lists have none of the forgotten pictures' captions. `short` counts them."""
    kept = table.filter(pa.array(~wanted.rows(table)))
    for name in _told(kept.schema):
        column, removed = _without(kept[name], wanted)
        kept = kept.set_column(kept.schema.get_field_index(name), kept.schema.field(name), column)
        if name == "negatives" and SHORT in kept.column_names and removed.any():
            place = kept.schema.get_field_index(SHORT)
            kept = kept.set_column(place, kept.schema.field(place), _longer(kept[SHORT], removed))
    return similar_images.without(kept, wanted).replace_schema_metadata(table.schema.metadata)


def _without(column: pa.ChunkedArray, wanted: Wanted) -> tuple[pa.Array, Array]:
    """(the lists without these pictures' captions, how many each caption's list has lost)."""
    images = column.combine_chunks()
    if images.null_count == len(images):  # the table was not joined
        return images, np.zeros(0, np.int64)
    captions = pc.list_flatten(images)
    counts = pc.list_value_length(captions).to_numpy(zero_copy_only=False).astype(np.int64)
    negatives = pc.list_flatten(captions)
    gone = _forgotten(negatives, wanted)
    removed = np.bincount(np.repeat(np.arange(len(counts)), counts)[gone], minlength=len(counts))
    inner = pa.ListArray.from_arrays(_ends(counts - removed), negatives.filter(pa.array(~gone)))
    outer = pc.fill_null(pc.list_value_length(images), 0).to_numpy(zero_copy_only=False)
    mask = images.is_null() if images.null_count else None
    return pa.ListArray.from_arrays(_ends(outer), inner, mask=mask).cast(column.type), removed


def _forgotten(negatives: pa.Array | pa.ChunkedArray, wanted: Wanted) -> Array:
    images = pa.array(wanted.images, pa.binary(16))
    found = pc.is_in(pc.struct_field(negatives, "image_id"), value_set=images)
    whole: Array = found.to_numpy() if isinstance(found, pa.ChunkedArray) else found.to_numpy(zero_copy_only=False)
    return whole


def _longer(short: pa.ChunkedArray, removed: Array) -> pa.Array:
    images = short.combine_chunks()
    missing = pc.list_flatten(images).to_numpy(zero_copy_only=False) + removed
    return pa.ListArray.from_arrays(_ends(pc.list_value_length(images).to_numpy()), pa.array(missing)).cast(short.type)


def _ends(counts: Array) -> pa.Array:
    return pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32())
