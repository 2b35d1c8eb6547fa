"""Finds what repeats over the whole corpus: rows like an earlier one or an excluded image, captions of many images.

Decided once over all shards. The earliest row in list order that passes the rules stays. Captions of an exact duplicate
are added to the row that stays if both lie in the same shard, or if shards depend on the whole corpus by the settings.
Otherwise they stay in the quarantine table, each as a row `caption-lost`, so that lines added to the list later change
no shard that is done. So do captions of near duplicates, which tell of another picture.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stages.contract import Corpus
from stages.curate import exclude, repeats
from stages.curate.config import Config
from stages.curate.decisions import (
    FILE,
    IMAGES,
    OF_A_SHARD,
    SCHEMA,
    SHARDS,
    Decisions,
    Key,
    image_sizes,
    keys,
    score_of,
)
from stages.curate.handover import Captions, lost
from stages.curate.near import Alike, Positions, kept_positions
from stages.curate.rules import judge
from stages.curate.text import clean

COLUMNS = ("image_id", "sha256", "phash", "original_width", "original_height", "url", "captions", "extra")
EXCLUDED = {"reason": "excluded", "detail": "it is on a list of images to keep away from (curate.exclude)"}


@dataclass
class _Survivors:
    """The rows that pass the rules by themselves, over all shards, in list order; about 150 bytes each."""

    names: list[str] = field(default_factory=list)
    shards: list[int] = field(default_factory=list)  # positions in `names`
    keys: list[Key] = field(default_factory=list)
    image_ids: list[bytes] = field(default_factory=list)
    phashes: list[int | None] = field(default_factory=list)  # None of a pair without a picture
    excluded: list[bool] = field(default_factory=list)  # by their bytes
    captions: Captions = field(default_factory=Captions)  # those that pass the rules

    def add(self, key: Key, row: dict[str, Any], excluded: bool, captions: list[dict[str, Any]]) -> None:
        self.shards.append(len(self.names) - 1)
        self.keys.append(key)
        self.image_ids.append(row["image_id"])
        self.phashes.append(row["phash"])
        self.excluded.append(excluded)
        self.captions.add(captions)

    def name(self, here: int) -> str:
        return self.names[self.shards[here]]


def decide(corpus: Corpus, config: Config, folder: Path) -> None:
    """Read all of download (twice, if captions or scores are to be counted) and write what `Decisions` opens."""
    _write_shards(corpus, config, folder)
    _write_crowded(corpus, config, folder)
    pq.write_table(SCHEMA.empty_table(), folder / FILE)
    known = Decisions.open(folder)
    avoided = exclude.read(config)
    columns = (*COLUMNS, "image") if config.min_bytes else COLUMNS
    rows = _Survivors()
    for shard, table in corpus.tables("download", columns):
        listed = table.drop_columns(["image"] if config.min_bytes else []).to_pylist()
        rows.names.append(shard)
        for key, row, size in zip(keys(listed), listed, image_sizes(table, config), strict=True):
            verdict = judge(known.facts(row, shard, config, size), row["captions"], config)
            if verdict.reason is None:
                excluded = not avoided.ids.isdisjoint((row["image_id"], row["sha256"]))
                rows.add(key, row, excluded, verdict.captions)
    table = pa.Table.from_pylist(list(_decisions(rows, config, avoided.phashes, corpus)), SCHEMA)
    pq.write_table(table, folder / FILE)


def _write_shards(corpus: Corpus, config: Config, folder: Path) -> None:
    names: list[str] = []
    hashes: list[npt.NDArray[np.uint64]] = []
    scores: list[npt.NDArray[np.float32]] = []
    counting = config.max_repeats is not None or config.max_repeat_share is not None
    images: list[int] = []
    if counting or config.top_share is not None:
        for shard, table in corpus.tables("download", ("captions", "extra")):
            names.append(shard)
            images.append(table.num_rows)
            rows = table.to_pylist()
            if counting:
                texts = ({clean(caption["text"]) for caption in row["captions"]} for row in rows)
                hashes.append(np.array([repeats.text_hash(text) for row in texts for text in row if text], np.uint64))
            values = [score_of(row, config) for row in rows]
            scores.append(np.array([np.nan if value is None else value for value in values], np.float32))
    so_far = config.counted == "so-far"
    repeated: list[set[int]] = [set() for _ in names]
    if counting and names:
        repeated = repeats.repeated(hashes, images, config.max_repeats, config.max_repeat_share, so_far)
    floors: list[float | None] = [None] * len(names)
    if config.top_share is not None:
        floors = [*repeats.floors(scores, config.top_share, so_far)]
    content = {"shard": names, "repeated": [sorted(found) for found in repeated], "score_floor": floors}
    pq.write_table(pa.table(content, OF_A_SHARD), folder / SHARDS)


def _write_crowded(corpus: Corpus, config: Config, folder: Path) -> None:
    """Images that have too many captions, of all rows or (so-far) of those up to the end of a shard that has them."""
    found: list[tuple[str, bytes]] = []
    if config.max_image_captions is not None:
        counts: Counter[bytes] = Counter()
        if config.counted == "corpus":
            for _, counted in _captions_of_images(corpus):
                counts.update(counted)
        for shard, here in _captions_of_images(corpus):
            if config.counted == "so-far":
                counts.update(here)
            found += [(shard, one) for one in here if counts[one] > config.max_image_captions]
    content = {"shard": [shard for shard, _ in found], "image_id": [one for _, one in found]}
    schema = pa.schema([pa.field("shard", pa.string()), pa.field("image_id", pa.binary(16))])
    pq.write_table(pa.table(content, schema), folder / IMAGES)


def _captions_of_images(corpus: Corpus) -> Iterator[tuple[str, Counter[bytes]]]:
    """(shard, how many captions its rows give each image), in order."""
    for shard, table in corpus.tables("download", ("image_id", "captions")):
        counts: Counter[bytes] = Counter()
        sizes = pc.list_value_length(table["captions"]).to_pylist()
        for image_id, captions in zip(table["image_id"].to_pylist(), sizes, strict=True):
            counts[image_id] += captions
        yield shard, counts


def _decisions(
    rows: _Survivors, config: Config, avoided: npt.NDArray[np.uint64], corpus: Corpus
) -> Iterator[dict[str, Any]]:
    hashes, pictured = hashes_of(rows.phashes)
    excluded = np.array(rows.excluded, bool) | (pictured & near_excluded(hashes, avoided, config.exclude_distance))
    left = np.flatnonzero(~excluded)
    stays = np.arange(len(excluded))
    stays[left] = left[_kept(rows, left, config, corpus)]
    places: list[int] = stays.tolist()
    united = [here for here, there in enumerate(places) if _unites(rows, here, there, config)]
    gone = lost(rows.captions, places, united)
    handed: dict[int, list[dict[str, Any]]] = {}
    for here, captions in _captions(rows, united, corpus):
        handed.setdefault(places[here], []).extend(captions)
    for here, there in enumerate(places):
        if here != there or here in handed or excluded[here]:
            key, occurrence = rows.keys[here]
            verdict = EXCLUDED if excluded[here] else _verdict(rows, here, there, here in gone)
            captions, positions = handed.get(here, []), gone.get(here, [])
            row = {"shard": rows.name(here), "row": key, "occurrence": occurrence}
            yield {**row, **verdict, "captions": captions, "lost": positions}


def hashes_of(phashes: Sequence[int | None]) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.bool_]]:
    """(the hashes, 0 for a pair without a picture; which have one)."""
    return np.array([phash or 0 for phash in phashes], np.uint64), np.array([p is not None for p in phashes], bool)


def near_excluded(
    phashes: npt.NDArray[np.uint64], avoided: npt.NDArray[np.uint64], distance: int
) -> npt.NDArray[np.bool_]:
    """Which images are within `distance` bits of one that is to be kept away from."""
    if not len(avoided):
        return np.zeros(len(phashes), bool)
    from stages.curate.duplicates import near_any

    return near_any(phashes, avoided, distance)


def _kept(rows: _Survivors, left: npt.NDArray[np.int64], config: Config, corpus: Corpus) -> npt.NDArray[np.int64]:
    if not config.unite_duplicates:
        return np.arange(len(left))
    ids = np.array([rows.image_ids[here] for here in left], "V16")
    alike = None if config.max_distance is None else Alike(config.max_distance, config.max_colour_distance)

    def pictures(places: Positions) -> Iterator[pa.Table]:
        shards = {rows.name(here) for here in left[places].tolist()}
        return (table for _, table in corpus.tables("download", ("image_id", "image"), shards))

    hashes, pictured = hashes_of(rows.phashes)
    return kept_positions(ids, hashes[left], alike, pictures, pictured[left])


def _unites(rows: _Survivors, here: int, there: int, config: Config) -> bool:
    """Whether a row hands its captions to the one that stays."""
    reached = config.reads_corpus or rows.shards[here] == rows.shards[there]
    return here != there and reached and rows.image_ids[here] == rows.image_ids[there]


def _captions(rows: _Survivors, wanted: Sequence[int], corpus: Corpus) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """(row, its captions as downloaded) of these rows, in order."""
    by_shard: dict[str, dict[Key, int]] = {}
    for here in wanted:
        by_shard.setdefault(rows.name(here), {})[rows.keys[here]] = here
    if by_shard:
        for shard, table in corpus.tables("download", ("url", "image_id", "captions"), by_shard):
            listed = table.to_pylist()
            for key, row in zip(keys(listed), listed, strict=True):
                if key in by_shard[shard]:
                    yield by_shard[shard][key], row["captions"]


def _verdict(rows: _Survivors, here: int, there: int, loses: bool) -> dict[str, Any]:
    """loses: whether captions are lost with the row."""
    if here == there:
        return {"reason": None, "detail": ""}
    kept = rows.image_ids[there].hex()
    if rows.image_ids[here] != rows.image_ids[there]:
        distance = ((rows.phashes[here] or 0) ^ (rows.phashes[there] or 0)).bit_count()
        return {"reason": "near-duplicate", "detail": f"of {kept}, {distance} bits apart"}
    place = "which has its captions too"
    if loses:
        place = f"in shard {rows.name(there)}; captions of it are only here"
    return {"reason": "duplicate", "detail": f"of {kept}, {place}"}
