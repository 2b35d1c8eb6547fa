"""Images that look the same count as one: their captions are never each other's hard negatives."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stages.contract import Corpus
from stages.negatives.rule import Config


def looks_like(corpus: Corpus, config: Config) -> dict[str, pa.Table]:
    """Of each shard of curate image_id and looks_like: the earliest image that looks the same, or itself.

    Nothing if near_distance is null. By the rule by which curate leaves near duplicates out, so it finds none where
    curate's distances are as large. Images added later change nothing for those before them.
    """
    if config.near_distance is None:
        return {}
    from stages.curate.near import Alike, Positions, kept_positions  # who mines plain lists has no use for curate

    shards = dict(corpus.tables("curate", ["image_id", "phash"]))
    names = np.repeat(list(shards), [len(table) for table in shards.values()])

    def pictures(places: Positions) -> Iterator[pa.Table]:
        asked = set(names[places].tolist())
        return (table for _, table in corpus.tables("curate", ["image_id", "image"], asked))

    whole = pa.concat_tables(shards.values()).combine_chunks()
    ids = np.array(whole["image_id"].to_pylist(), "V16")
    alike = Alike(config.near_distance, config.near_colour_distance)
    pictured = whole["phash"].is_valid().to_numpy()
    hashes = pc.fill_null(whole["phash"], pa.scalar(0, pa.uint64())).to_numpy().astype(np.uint64)
    places = kept_positions(ids, hashes, alike, pictures, pictured)
    found = whole["image_id"].take(pa.array(places))
    start, with_looks = 0, {}
    for name, table in shards.items():
        own = found.slice(start, len(table)).combine_chunks()
        with_looks[name] = table.drop_columns("phash").append_column("looks_like", own)
        start += len(table)
    return with_looks
