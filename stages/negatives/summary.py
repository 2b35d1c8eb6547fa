"""What lists of hard negatives are like as a whole: how similar, how many short, which captions come most often."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stages.negatives.captions import one_chunk
from stages.negatives.frequent import KEY, Buckets

Array = npt.NDArray[Any]

STEP = 0.05  # width of a bin of similarities
MOST = 10  # most frequent negatives that are named
# All that is counted, as Parquet names its columns: the texts are three quarters of a table and would only be skipped.
COUNTED = [f"negatives.list.element.list.element.{name}" for name in ("image_id", "caption_index", "similarity")]


def summarise(
    tables: Iterable[pa.Table],
    with_texts: Callable[[], Iterable[pa.Table]],
    again: Callable[[], Iterable[pa.Table]] | None = None,
) -> dict[str, Any]:
    """Facts of tables with the columns negatives and short, an entry a caption or a list of entries an image.

    The negatives need no text here; with_texts gives tables that have it, read until the few that are named are found.
    again: the tables once more, those with texts if None.
    captions and negatives; short (captions with fewer than top_k) and short_share; similarity_bins: from which value on
    (as text) how many; most_frequent: image_id (hex or as given), caption_index, text and times.
    """
    captions = short = 0
    bins = np.zeros(0, np.int64)
    buckets, again = Buckets(), again or with_texts
    for table in tables:
        missing = _flat(table["short"])
        captions, short = captions + len(missing), short + int(pc.sum(pc.greater(missing, 0)).as_py() or 0)
        negatives = _flat(table["negatives"])
        bins = _added(bins, _bins(negatives.field("similarity").to_numpy(zero_copy_only=False)))
        buckets.add(negatives)
    best = buckets.best(MOST, lambda: (_flat(table["negatives"]) for table in again())) if bins.any() else []
    return {
        "captions": captions,
        "negatives": int(bins.sum()),
        "short": short,
        "short_share": round(short / max(captions, 1), 4),
        "similarity_bins": {f"{number * STEP:.2f}": int(bins[number]) for number in np.flatnonzero(bins)},
        "most_frequent": _named(best, with_texts()),
    }


def _flat(column: pa.ChunkedArray) -> pa.Array:
    values = one_chunk(column)
    while pa.types.is_list(values.type):
        values = values.flatten()
    return values


def _bins(similarities: Array) -> Array:
    """How many similarities, which are not negative, lie in each bin; int64."""
    return np.bincount(np.floor(similarities / np.float32(STEP) + 1e-4).astype(np.int64))


def _added(one: Array, other: Array) -> Array:
    """The sum, as long as the longer one."""
    longer, shorter = (one, other) if len(one) >= len(other) else (other, one)
    total = longer.copy()
    total[: len(shorter)] += shorter
    return total


def _named(best: list[dict[str, Any]], tables: Iterable[pa.Table]) -> list[dict[str, Any]]:
    """These captions with their texts, found in tables of negatives."""
    unread, nameless = iter(tables), list(best)
    texts: dict[tuple[Any, int], str] = {}
    while nameless:
        negatives = _flat(next(unread)["negatives"])
        rows = [_find(negatives, caption) for caption in nameless]
        for caption, row in zip(nameless, rows, strict=True):
            if row >= 0:
                texts[caption["image_id"], caption["caption_index"]] = negatives.field("text")[row].as_py()
        nameless = [caption for caption, row in zip(nameless, rows, strict=True) if row < 0]
    return [
        {
            "image_id": image_id.hex() if isinstance(image_id, bytes) else image_id,
            "caption_index": caption_index,
            "text": texts[image_id, caption_index],
            "times": times,
        }
        for image_id, caption_index, times in (caption.values() for caption in best)
    ]


def _find(negatives: pa.StructArray, caption: dict[str, Any]) -> int:
    """Where the caption is first among the negatives, or -1."""
    columns = {name: negatives.field(name) for name in KEY}
    same = [pc.equal(column, pa.scalar(caption[name], column.type)) for name, column in columns.items()]
    row: int = pc.and_(*same).index(True).as_py()
    return row
