"""What names a row: its image, its url, or what else there is. Equal keys are told apart by their order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from inspection.columns import Array, ids
from inspection.tables import column_names

KEY_BYTES = 16
WAYS = (("url",), ("key",), ("image_id", "source"), ("image_id",), ("text",))


def key_of(table: str, distinct: bool) -> tuple[str, ...]:
    """The columns that name a row of this table. distinct: each image comes once."""
    columns = set(column_names(table))
    if distinct and "image_id" in columns:
        return ("image_id",)
    return next((way for way in WAYS if set(way) <= columns), ())


def keys_of(table: pa.Table, key: Sequence[str]) -> Array:
    """20 bytes for each row: a hash of its key, and of equal keys the second has another number behind it."""
    if list(key) == ["image_id"]:
        found = ids(table["image_id"])
    else:
        digests = [xxhash.xxh3_128_digest(text.encode()) for text in shown_keys(table, key)]
        found = np.frombuffer(b"".join(digests), f"S{KEY_BYTES}")
    order = np.argsort(found, kind="stable")
    first = np.ones(len(found), bool)
    first[1:] = found[order][1:] != found[order][:-1]
    places = np.arange(len(found))
    numbered = np.empty(len(found), [("key", f"S{KEY_BYTES}"), ("number", ">u4")])
    numbered["key"] = found
    numbered["number"][order] = places - np.maximum.accumulate(np.where(first, places, 0))
    return numbered.view(f"S{KEY_BYTES + 4}")


def shown_keys(table: pa.Table, key: Sequence[str]) -> list[str]:
    """The keys for a reader, images in hex."""
    columns = [[v.hex() if isinstance(v, bytes) else v or "" for v in table[name].to_pylist()] for name in key]
    return [" ".join(parts) for parts in zip(*columns, strict=True)]


def matched(some: pa.Table, others: pa.Table, key: Sequence[str]) -> tuple[Array, Array]:
    """(rows of some, rows of others) that have the same key, in the order of some."""
    if some.select(key).equals(others.select(key)):
        return np.arange(len(some)), np.arange(len(some))
    if len(key) == 1:
        mine, theirs = (table[key[0]] for table in (some, others))
        if all(pc.count_distinct(column, mode="all").as_py() == len(column) for column in (mine, theirs)):
            places = pc.fill_null(pc.index_in(mine, theirs), -1).to_numpy()
            found = np.flatnonzero(places >= 0)
            return found, places[found].astype(np.int64)
    keys = keys_of(some, key), keys_of(others, key)
    _, rows, partners = np.intersect1d(*keys, assume_unique=True, return_indices=True)
    order = np.argsort(rows)
    return rows[order], partners[order]
