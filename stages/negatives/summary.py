"""What lists of hard negatives are like as a whole: how similar, how many short, which captions come most often."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

STEP = 0.05  # width of a bin of similarities
MOST = 10  # most frequent negatives that are named
ROOM = 1 << 22  # different captions that are counted before the counts are put together


def summarise(tables: Iterable[pa.Table]) -> dict[str, Any]:
    """Facts of tables with the columns negatives and short, an entry a caption or a list of entries an image.

    captions and negatives; short (captions with fewer than top_k) and short_share; similarity_bins: from which value on
    (as text) how many; most_frequent: image_id (hex or as given), caption_index, text and times.
    """
    captions = short = 0
    bins: dict[int, int] = {}
    waiting: list[pa.Table] = []
    for table in tables:
        missing = _flat(table["short"])
        captions, short = captions + len(missing), short + int(pc.sum(pc.greater(missing, 0)).as_py() or 0)
        negatives = _flat(table["negatives"])
        values = negatives.field("similarity").to_numpy(zero_copy_only=False)
        numbers, times = np.unique(np.floor(values / np.float32(STEP) + 1e-4).astype(int), return_counts=True)
        for number, count in zip(numbers.tolist(), times.tolist(), strict=True):
            bins[number] = bins.get(number, 0) + count
        names = ["image_id", "caption_index", "text"]
        counted = pa.table([negatives.field(name) for name in names], names=names)
        waiting.append(_counted(counted.append_column("times", pa.array(np.ones(len(counted), np.int64)))))
        if sum(map(len, waiting)) > ROOM:
            waiting = [_counted(pa.concat_tables(waiting))]
    return {
        "captions": captions,
        "negatives": sum(bins.values()),
        "short": short,
        "short_share": round(short / max(captions, 1), 4),
        "similarity_bins": {f"{number * STEP:.2f}": bins[number] for number in sorted(bins)},
        "most_frequent": _most_frequent(_counted(pa.concat_tables(waiting))) if waiting else [],
    }


def _flat(column: pa.ChunkedArray) -> pa.Array:
    values = column.combine_chunks()
    while pa.types.is_list(values.type):
        values = values.flatten()
    return values


def _counted(table: pa.Table) -> pa.Table:
    """One row a caption, with the sum of `times`."""
    grouped = table.group_by(["image_id", "caption_index"]).aggregate([("text", "one"), ("times", "sum")])
    return grouped.rename_columns({"text_one": "text", "times_sum": "times"}).select(table.column_names)


def _most_frequent(counted: pa.Table) -> list[dict[str, Any]]:
    keys = [("times", "descending"), ("image_id", "ascending"), ("caption_index", "ascending")]
    best = counted.take(pc.select_k_unstable(counted, min(MOST, len(counted)), keys)).to_pylist()
    return [
        {**row, "image_id": row["image_id"].hex() if isinstance(row["image_id"], bytes) else row["image_id"]}
        for row in best
    ]
