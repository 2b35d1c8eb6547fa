"""Images that look the same count as one: their captions are never each other's hard negatives."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pairloom.table import Array
from stages.contract import Corpus
from stages.gathered import fixed_bytes, opened
from stages.negatives.rule import Config

LOOKS = pa.schema([("image_id", pa.binary(16)), ("looks_like", pa.binary(16))])


def looks_like(corpus: Corpus, config: Config, room: Path) -> pa.Table:
    """Of each image of curate that looks like an earlier one, that one (LOOKS). room: for files meanwhile.

    By the rule by which curate leaves near duplicates out, so it finds none where curate's distances are as large.
    Images added later change nothing for those before them.
    """
    from stages.curate.columns import Column, Positions  # who mines plain lists has no use for curate
    from stages.curate.near import Alike, Images, colours_in, elsewhere

    files = corpus.gathered({"curate": ("image_id", "phash")}, hashes_of, None)
    with ExitStack() as stack:
        kinds = {"image_id": "V16", "phash": np.uint64, "pictured": np.bool_}
        columns = {name: Column(room / f"near-{name}", kind) for name, kind in kinds.items()}
        for column in columns.values():
            stack.callback(column.close)
        ends = []
        for path in files.values():
            table = opened(path)
            columns["image_id"].add(fixed_bytes(table["image_id"]))
            for name in ("phash", "pictured"):
                columns[name].add(table[name].to_numpy())
            ends.append(len(columns["phash"]))
        names, starts = list(files), np.array([0, *ends])

        def colours(places: Positions) -> pa.ChunkedArray:
            shards = np.searchsorted(starts, places, side="right") - 1
            asked: dict[str, list[int]] = {}
            for shard, place in zip(shards.tolist(), places.tolist(), strict=True):
                asked.setdefault(names[shard], []).append(place - int(starts[shard]))
            return colours_in(corpus, "curate", asked)

        ids, hashes, pictured = (column.array() for column in columns.values())
        alike = Alike(config.near_distance or 0, config.near_colour_distance)
        here, there = elsewhere(Images(ids, hashes, pictured), alike, colours, room)
        return pa.table([_ids(ids[here]), _ids(ids[there])], LOOKS)


def hashes_of(table: pa.Table, argument: Any) -> pa.Table:
    """image_id, phash (0 for none) and whether there is one."""
    phash = pc.fill_null(table["phash"], pa.scalar(0, pa.uint64()))
    return pa.table({"image_id": table["image_id"], "phash": phash, "pictured": table["phash"].is_valid()})


def with_looks(captions: pa.Table, looks: pa.Table) -> pa.Table:
    """The captions with the column looks_like: the image that theirs looks like, or itself."""
    own = captions["image_id"].combine_chunks()
    rows = pc.index_in(own, value_set=looks["image_id"].combine_chunks())
    like = looks["looks_like"].combine_chunks().take(rows)
    return captions.append_column("looks_like", pc.coalesce(like, own))


def _ids(raw: Array) -> pa.Array:
    """V16 as Arrow has it."""
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(raw), [None, pa.py_buffer(raw.tobytes())])
