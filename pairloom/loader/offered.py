"""Which captions of a shard are offered to a recipe: by their languages, which the index has, and by their kinds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pairloom.loader.drawing import Draw
from pairloom.loader.reading import ShardReader
from pairloom.store.index import wanted
from pairloom.table import Array


def offered(reader: ShardReader, group: int, languages: Sequence[str], draws: Sequence[Draw]) -> tuple[Array, Array]:
    """(row in the group, caption index) of every caption of a row group that may be drawn, in their order.

    An image that has no caption for one of the draws offers none at all. Raises DamagedError.
    """
    start, stop = reader.starts[group : group + 2]
    first, _ = reader.index.captions
    chosen = wanted(reader.index, languages)[first[start] : first[stop]]
    counts = np.diff(first[start : stop + 1])
    rows = np.repeat(np.arange(stop - start, dtype=np.int32), counts)
    captions = np.arange(first[start], first[stop], dtype=np.int32) - np.repeat(first[start:stop], counts)
    if any(draw.kinds for draw in draws):
        chosen = _of_kinds(chosen, rows, kinds_of(reader, group), draws)
    return rows[chosen], captions[chosen]


def _of_kinds(chosen: Array, rows: Array, kinds: Sequence[str | None], draws: Sequence[Draw]) -> Array:
    images = int(rows[-1]) + 1 if len(rows) else 0
    taken, complete = np.zeros(len(chosen), bool), np.ones(images, bool)
    for draw in draws:
        of_draw = chosen & np.fromiter((draw.takes(kind) for kind in kinds), bool, len(kinds))
        taken |= of_draw
        complete &= np.bincount(rows[of_draw], minlength=images) > 0
    of_whole: Array = taken & complete[rows]
    return of_whole


def counted(reader: ShardReader, languages: Sequence[str], draws: Sequence[Draw]) -> tuple[Array, Array]:
    """Of each row group of a shard: its captions that may be drawn, and the images that have one."""
    if any(draw.kinds for draw in draws):
        pairs = [offered(reader, group, languages, draws)[0] for group in range(reader.groups)]
        return np.array([len(rows) for rows in pairs]), np.array([len(np.unique(rows)) for rows in pairs])
    index = reader.index
    first, _ = index.captions
    chosen = np.concatenate([[0], np.cumsum(wanted(index, languages))])[first]
    captions = np.diff(chosen)  # of each row, those in the wanted languages
    rows = np.bincount(index.row_groups, weights=captions, minlength=reader.groups).astype(np.int64)
    return rows, np.bincount(index.row_groups[captions > 0], minlength=reader.groups)


def kinds_of(reader: ShardReader, group: int) -> list[str | None]:
    """Of each caption of a row group. None throughout in shards of earlier versions. Raises DamagedError."""
    captions = reader.small(group, ["captions"])["captions"].combine_chunks().flatten()
    if captions.type.get_field_index("kind") < 0:
        return [None] * len(captions)
    kinds: list[str | None] = captions.field("kind").to_pylist()
    return kinds
