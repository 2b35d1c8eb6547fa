"""Between tables and the index: find a table's captions in it, and give what was found as Arrow structs."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pairloom.errors import ConfigError
from schemas.negatives import NEGATIVE
from stages.negatives.captions import one_chunk, positions
from stages.negatives.inverted import Index

Array = npt.NDArray[Any]
MOST_TEXT = (1 << 31) - 1  # bytes of a string column, whose offsets have 32 bits


def lookup(index: Index, captions: pa.Table) -> tuple[Array, Array]:
    """(part, number there) of captions of one language, given image by image with ids of 16 bytes. Int64.

    Raises ValueError for a caption that the index does not have: it was made from another corpus.
    """
    parts, numbers = np.full(len(captions), -1), np.zeros(len(captions), np.int64)
    wanted, indexes = fixed(captions["image_id"]), captions["caption_index"].to_numpy()
    for number, part in enumerate(index.parts):
        there, here = find(part.captions.table, wanted, indexes)
        parts[there], numbers[there] = number, here[there]
    if (parts < 0).any():
        raise ValueError("the index of the negatives does not have these captions")
    return parts, numbers


def find(captions: pa.Table, wanted: Array, indexes: Array) -> tuple[Array, Array]:
    """(whether the captions of a part have the caption, its number there). wanted: of `fixed`. All of one language."""
    known = fixed(captions["image_id"])
    if len(known) == 0:
        return np.zeros(len(wanted), np.bool_), np.zeros(len(wanted), np.int64)
    run = np.zeros(len(wanted), np.int64)
    run[1:] = wanted[1:] != wanted[:-1]
    first = np.searchsorted(known, wanted)
    numbers = np.minimum(first + positions(np.cumsum(run)), len(known) - 1)
    there = captions["caption_index"].to_numpy()
    return (known[numbers] == wanted) & (there[numbers] == indexes), numbers


def negatives_at(index: Index, places: Array, similarities: Array) -> pa.StructArray:
    """The captions at these places as negatives, with these similarities.

    Raises ConfigError if their texts have more bytes than one column may hold.
    """
    image_ids, indexes, texts = (one_chunk(column) for column in _rows(index, places).columns)
    size = pc.sum(pc.binary_length(texts)).as_py() or 0
    if size > MOST_TEXT:
        given = f"the {len(places):,} negatives of one shard have {size / 1e9:.1f} GB of text"
        fix = "set sample.rows_per_shard or negatives.top_k lower; long captions can be cut or left out in `curate`"
        raise ConfigError(given, "params.yaml", fix)
    arrays = [image_ids, indexes, texts.cast(pa.string()), pa.array(similarities)]
    return pa.StructArray.from_arrays(arrays, fields=negative_fields(image_ids.type))


def _rows(index: Index, places: Array) -> pa.Table:
    """image_id, caption_index and text of the captions at these places."""
    parts = np.searchsorted(np.array(index.bases), places, side="right") - 1
    taken, order = [], []
    for number, base in enumerate(index.bases):
        here = np.flatnonzero(parts == number)
        order.append(here)
        table = index.parts[number].captions.table.select(["image_id", "caption_index", "text"])
        taken.append(table.take(pa.array(places[here] - base)))
    if len(taken) == 1:
        return taken[0]
    back = np.empty(len(places), np.int64)
    back[np.concatenate(order)] = np.arange(len(places))
    return pa.concat_tables(taken).take(pa.array(back))


def negative_fields(ids: pa.DataType) -> list[pa.Field]:
    """The fields of a negative whose image ids have this type."""
    return [NEGATIVE.field(0).with_type(ids), *list(NEGATIVE)[1:]]


def offsets(counts: Array) -> pa.Array:
    return pa.array(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32))


def listed(counts: Array, values: pa.Array) -> pa.ListArray:
    """The values in lists of these lengths."""
    return pa.ListArray.from_arrays(offsets(counts), values)


def fixed(ids: pa.ChunkedArray) -> Array:
    """Ids of 16 bytes as numpy strings, which compare by byte (NULs at the end count as less, as they should)."""
    plain = one_chunk(ids) if ids.num_chunks else pa.array([], pa.binary(16))
    buffer = plain.buffers()[1]
    start = plain.offset * 16
    return np.frombuffer(buffer, dtype="S16", count=len(plain), offset=start) if len(plain) else np.empty(0, "S16")
