"""Images that look the same count as one: their captions are never each other's hard negatives."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa


def looks_like(shards: Mapping[str, pa.Table], max_distance: int) -> dict[str, pa.Table]:
    """The shards with a column looks_like instead of phash: the earliest image within that many bits, or itself.

    The same rule by which curate leaves near duplicates out; so it finds none where curate's distance is as large.
    Images added later change nothing for those before them.
    """
    from stages.curate.duplicates import near_kept  # here: who mines plain lists has no use for curate

    phashes = np.concatenate([table["phash"].to_numpy() for table in shards.values()] or [np.empty(0, np.uint64)])
    kept = near_kept(phashes.astype(np.uint64), max_distance)
    places = pa.array(np.where(kept < 0, np.arange(len(kept)), kept))
    ids = pa.chunked_array([chunk for table in shards.values() for chunk in table["image_id"].chunks], pa.binary(16))
    alike, start, with_looks = ids.take(places), 0, {}
    for name, table in shards.items():
        own = alike.slice(start, len(table)).combine_chunks()
        with_looks[name] = table.drop_columns("phash").append_column("looks_like", own)
        start += len(table)
    return with_looks
