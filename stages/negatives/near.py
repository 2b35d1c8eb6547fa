"""Images that look the same count as one: their captions are never each other's hard negatives."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pairloom.table import Array
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

    names, ends, raw, hashes, pictured = _read(corpus)

    def pictures(places: Positions) -> Iterator[pa.Table]:
        asked = {names[number] for number in np.unique(np.searchsorted(ends, places, side="right")).tolist()}
        return (table for _, table in corpus.tables("curate", ["image_id", "image"], asked))

    alike = Alike(config.near_distance, config.near_colour_distance)
    places = kept_positions(raw, hashes, alike, pictures, pictured)
    starts = np.concatenate([[0], ends[:-1]])
    with_looks = {}
    for name, start, end in zip(names, starts.tolist(), ends.tolist(), strict=True):
        own, like = (_ids(part) for part in (raw[start:end], raw[places[start:end]]))
        with_looks[name] = pa.table({"image_id": own, "looks_like": like})
    return with_looks


def _read(corpus: Corpus) -> tuple[list[str], Array, Array, Array, Array]:
    """The shards of curate and where their rows end; of each row its id (V16), its hash and whether it has one."""
    names, counts = list[str](), list[int]()
    columns: tuple[list[Array], list[Array], list[Array]] = [], [], []
    for name, table in corpus.tables("curate", ["image_id", "phash"]):
        names.append(name)
        counts.append(table.num_rows)
        columns[0].append(np.array(table["image_id"].to_pylist(), "V16"))
        columns[1].append(pc.fill_null(table["phash"], pa.scalar(0, pa.uint64())).to_numpy().astype(np.uint64))
        columns[2].append(table["phash"].is_valid().to_numpy())
    kinds = ("V16", "<u8", "?")
    ids, hashes, pictured = (np.concatenate([np.empty(0, k), *each]) for k, each in zip(kinds, columns, strict=True))
    return names, np.cumsum(counts, dtype=np.int64), ids, hashes, pictured


def _ids(raw: Array) -> pa.Array:
    """V16 as Arrow has it."""
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(raw), [None, pa.py_buffer(raw.tobytes())])
