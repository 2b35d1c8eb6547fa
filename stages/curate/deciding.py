"""Finds what repeats over the whole corpus: rows like an earlier one or an excluded image, captions of many images.

Decided once over all shards. The earliest row in list order that passes the rules stays. Captions of an exact duplicate
are added to the row that stays if both lie in the same shard, or if shards depend on the whole corpus by the settings.
Otherwise they stay in the quarantine table, each as a row `caption-lost`, so that lines added to the list later change
no shard that is done. So do captions of near duplicates, which tell of another picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from stages.contract import Corpus
from stages.curate import counting, exclude
from stages.curate.config import Config
from stages.curate.decisions import FILE, SCHEMA, Decisions, Key, image_sizes, keys
from stages.curate.handover import lost
from stages.curate.near import Alike, Positions, kept_positions
from stages.curate.rules import judge
from stages.curate.survivors import Survivors, survivors

BATCH = 10_000  # decisions that are written at once
COLUMNS = ("image_id", "sha256", "phash", "original_width", "original_height", "url", "captions", "extra")
EXCLUDED = {"reason": "excluded", "detail": "it is on a list of images to keep away from (curate.exclude)"}


def decide(corpus: Corpus, config: Config, folder: Path) -> None:
    """Read all of download (twice, if captions or scores are to be counted) and write what `Decisions` opens."""
    counting.write_shards(corpus, config, folder)
    counting.write_crowded(corpus, config, folder)
    avoided = exclude.read(config)
    with survivors(folder) as rows, pq.ParquetWriter(folder / FILE, SCHEMA) as file:
        _collect(corpus, config, Decisions(folder), avoided.ids, rows)
        found = _decisions(rows, config, avoided.phashes, corpus)
        while batch := list(islice(found, BATCH)):
            file.write_table(pa.Table.from_pylist(batch, SCHEMA))


def _collect(corpus: Corpus, config: Config, known: Decisions, avoided: set[bytes], rows: Survivors) -> None:
    columns = (*COLUMNS, "image") if config.min_bytes else COLUMNS
    for shard, table in corpus.tables("download", columns):
        listed = table.drop_columns(["image"] if config.min_bytes else []).to_pylist()
        found = []
        for key, row, size in zip(keys(listed), listed, image_sizes(table, config), strict=True):
            verdict = judge(known.facts(row, shard, config, size), row["captions"], config)
            if verdict.reason is None:
                excluded = not avoided.isdisjoint((row["image_id"], row["sha256"]))
                found.append((key, row, excluded, verdict.captions))
        rows.add(shard, found)


def _decisions(
    rows: Survivors, config: Config, avoided: npt.NDArray[np.uint64], corpus: Corpus
) -> Iterator[dict[str, Any]]:
    """Of each row that goes, or has captions handed to it, in order."""
    excluded = rows.excluded()
    excluded |= rows.pictured.array() & near_excluded(rows.phashes.array(), avoided, config.exclude_distance)
    stays = _kept(rows, excluded, config, corpus)
    goes: list[int] = np.flatnonzero(stays != np.arange(len(stays))).tolist()
    places = dict(zip(goes, stays[goes].tolist(), strict=True))
    del stays
    united = [here for here, there in places.items() if _unites(rows, here, there, config)]
    gone = lost(rows.captions, places, united)
    handed: dict[int, list[dict[str, Any]]] = {}
    for here, captions in _captions(rows, united, corpus):
        handed.setdefault(places[here], []).extend(captions)
    for here in sorted({*places, *handed, *np.flatnonzero(excluded).tolist()}):
        key, occurrence = rows.key(here)
        verdict = EXCLUDED if excluded[here] else _verdict(rows, here, places.get(here, here), here in gone)
        captions, positions = handed.get(here, []), gone.get(here, [])
        row = {"shard": rows.name(here), "row": key, "occurrence": occurrence}
        yield {**row, **verdict, "captions": captions, "lost": positions}


def near_excluded(
    phashes: npt.NDArray[np.uint64], avoided: npt.NDArray[np.uint64], distance: int
) -> npt.NDArray[np.bool_]:
    """Which images are within `distance` bits of one that is to be kept away from."""
    if not len(avoided):
        return np.zeros(len(phashes), bool)
    from stages.curate.duplicates import near_any

    return near_any(phashes, avoided, distance)


def _kept(rows: Survivors, excluded: npt.NDArray[np.bool_], config: Config, corpus: Corpus) -> npt.NDArray[np.int64]:
    """Of each row the one that stays in its place, or its own position, as an excluded one."""
    if not config.unite_duplicates:
        return np.arange(len(rows.rows))
    left = np.flatnonzero(~excluded) if excluded.any() else None  # 8 bytes a row that most lists need not spend
    alike = None if config.max_distance is None else Alike(config.max_distance, config.max_colour_distance)

    def pictures(places: Positions) -> Iterator[pa.Table]:
        here = places if left is None else left[places]
        shards = {rows.names[number] for number in np.unique(rows.rows.array()["shard"][here]).tolist()}
        return (table for _, table in corpus.tables("download", ("image_id", "image"), shards))

    ids, hashes, pictured = rows.image_ids.array(), rows.phashes.array(), rows.pictured.array()
    if left is None:
        return kept_positions(ids, hashes, alike, pictures, pictured)
    stays = np.arange(len(ids))
    stays[left] = left[kept_positions(ids[left], hashes[left], alike, pictures, pictured[left])]
    return stays


def _unites(rows: Survivors, here: int, there: int, config: Config) -> bool:
    """Whether a row hands its captions to the one that stays."""
    reached = config.reads_corpus or rows.shard(here) == rows.shard(there)
    return here != there and reached and rows.image_id(here) == rows.image_id(there)


def _captions(rows: Survivors, wanted: Sequence[int], corpus: Corpus) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """(row, its captions as downloaded) of these rows, in order."""
    by_shard: dict[str, dict[Key, int]] = {}
    for here in wanted:
        by_shard.setdefault(rows.name(here), {})[rows.key(here)] = here
    if by_shard:
        for shard, table in corpus.tables("download", ("url", "image_id", "captions"), by_shard):
            listed = table.to_pylist()
            for key, row in zip(keys(listed), listed, strict=True):
                if key in by_shard[shard]:
                    yield by_shard[shard][key], row["captions"]


def _verdict(rows: Survivors, here: int, there: int, loses: bool) -> dict[str, Any]:
    """loses: whether captions are lost with the row."""
    if here == there:
        return {"reason": None, "detail": ""}
    kept = rows.image_id(there).hex()
    if rows.image_id(here) != rows.image_id(there):
        one, other = rows.phashes.array()[[here, there]].tolist()
        distance = (one ^ other).bit_count()
        return {"reason": "near-duplicate", "detail": f"of {kept}, {distance} bits apart"}
    place = "which has its captions too"
    if loses:
        place = f"in shard {rows.name(there)}; captions of it are only here"
    return {"reason": "duplicate", "detail": f"of {kept}, {place}"}
