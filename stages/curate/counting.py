"""Counts over the corpus, written shard by shard: captions of many images, the score of a top share, crowded images."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stages.contract import Corpus
from stages.curate import repeats
from stages.curate.columns import Array, Column, pieces
from stages.curate.config import Config
from stages.curate.decisions import IMAGES, OF_A_SHARD, OF_AN_IMAGE, SHARDS, score_of
from stages.curate.text import clean

ID = "V16"
WITHIN = 1000  # shards of a row group: readers look for one shard


@dataclass(frozen=True)
class Limits:
    """Of each shard: how often something may be there, counted as the settings say."""

    most: Array  # float64
    so_far: bool


def write_shards(corpus: Corpus, config: Config, folder: Path) -> None:
    names: list[str] = []
    scores: list[Array] = []
    images: list[int] = []
    counting = config.max_repeats is not None or config.max_repeat_share is not None
    so_far = config.counted == "so-far"
    with ExitStack() as stack:
        room = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=folder)))
        hashes, shards = (_column(stack, room / name, kind) for name, kind in (("hashes", "<u8"), ("shards", "<i4")))
        if counting or config.top_share is not None:
            for shard, table in corpus.tables("download", ("captions", "extra")):
                rows = table.to_pylist()
                if counting:
                    texts = ({clean(caption["text"]) for caption in row["captions"]} for row in rows)
                    found = [repeats.text_hash(text) for row in texts for text in row if text]
                    hashes.add(np.array(found, np.uint64))
                    shards.add(np.full(len(found), len(names), np.int32))
                if config.top_share is not None:
                    values = [score_of(row, config) for row in rows]
                    scores.append(np.array([np.nan if value is None else value for value in values], np.float32))
                names.append(shard)
                images.append(table.num_rows)
        most = repeats.limits(images, config.max_repeats, config.max_repeat_share, so_far)
        repeated = _repeated(hashes.array(), shards.array(), Limits(most, so_far)) if counting else _none(len(names))
    floors = repeats.floors(scores, config.top_share, so_far) if config.top_share is not None else [None] * len(names)
    content = {"shard": names, "repeated": repeated, "score_floor": pa.array(floors, pa.float32())}
    pq.write_table(pa.table(content, OF_A_SHARD), folder / SHARDS, row_group_size=WITHIN)


def _column(stack: ExitStack, path: Path, kind: str) -> Column:
    column = Column(path, kind)
    stack.callback(column.close)
    return column


def _none(shards: int) -> pa.Array:
    return pa.array([[]] * shards, pa.large_list(pa.uint64()))


def _repeated(hashes: Array, shards: Array, limits: Limits) -> pa.Array:
    """Of each shard the hashes that come too often, ascending."""
    found = [np.empty(0, np.int64)]
    for places in pieces(hashes):
        found.append(places[repeats.over(hashes[places], shards[places], None, limits.most, limits.so_far)])
    places = np.concatenate(found)
    places = places[np.lexsort((hashes[places], shards[places]))]
    own, of = hashes[places], shards[places]
    again = (own[1:] == own[:-1]) & (of[1:] == of[:-1])  # the same text of two images of a shard
    own, of = (values[np.r_[True, ~again][: len(places)]] for values in (own, of))
    starts = np.searchsorted(of, np.arange(len(limits.most) + 1))
    return pa.LargeListArray.from_arrays(pa.array(starts, pa.int64()), pa.array(own))


def write_crowded(corpus: Corpus, config: Config, folder: Path) -> None:
    """Images that have too many captions, of all rows or (so-far) of those up to the end of a shard that has them."""
    names: list[str] = []
    with ExitStack() as stack, pq.ParquetWriter(folder / IMAGES, OF_AN_IMAGE) as file:
        if config.max_image_captions is None:
            return
        room = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=folder)))
        kinds = {"ids": ID, "shards": "<i4", "captions": "<i4"}
        ids, shards, captions = (_column(stack, room / name, kind) for name, kind in kinds.items())
        for shard, table in corpus.tables("download", ("image_id", "captions")):
            ids.add(np.array(table["image_id"].to_pylist(), ID))
            shards.add(np.full(table.num_rows, len(names), np.int32))
            captions.add(pc.list_value_length(table["captions"]).to_numpy())
            names.append(shard)
        limits = Limits(np.full(len(names), config.max_image_captions), config.counted == "so-far")
        crowded = _crowded(ids.array(), shards.array(), captions.array(), limits)
        for start in range(0, len(crowded), 1 << 16):
            places = crowded[start : start + (1 << 16)]
            found = [names[number] for number in shards.array()[places].tolist()]
            own = pa.array([bytes(one) for one in ids.array()[places]], pa.binary(16))
            file.write_table(pa.table({"shard": found, "image_id": own}, OF_AN_IMAGE))


def _crowded(ids: Array, shards: Array, captions: Array, limits: Limits) -> Array:
    """The rows whose image has too many captions, in order."""
    beginnings = np.array(ids.view(np.dtype([("start", "<u8"), ("rest", "<u8")]))["start"])
    found = [np.empty(0, np.int64)]
    for places in pieces(beginnings):
        _, same = np.unique(ids[places], return_inverse=True)
        over = repeats.over(same, shards[places], captions[places], limits.most, limits.so_far)
        found.append(places[over])
    return np.sort(np.concatenate(found))
