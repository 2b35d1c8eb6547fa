"""Finds what repeats over the whole corpus: rows like an earlier one or an excluded image, captions of many images.

Workers judge the rows of each shard. What is put together here are a few numbers of each, in files. The earliest row in
list order that passes the rules stays. Captions of an exact duplicate are added to the row that stays if both lie in
the same shard, or if shards depend on the whole corpus by the settings. Otherwise they stay in the quarantine table,
each as a row `caption-lost`, so that lines added to the list later change no shard that is done. So do captions of near
duplicates, which tell of another picture.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from stages.contract import Corpus
from stages.curate import counting, exclude
from stages.curate.by_shard import Writing
from stages.curate.columns import Array, Positions
from stages.curate.config import Config
from stages.curate.decisions import OF_A_ROW, ROWS
from stages.curate.facts import Asked, facts_of, inputs_of
from stages.curate.handover import Handed, Handing, captions_at, lost
from stages.curate.meaning import Verdicts, same_meaning
from stages.curate.near import Alike, Images, colours_in, elsewhere
from stages.curate.survivors import Survivors, survivors
from stages.gathered import opened

EXCLUDED = {"reason": "excluded", "detail": "it is on a list of images to keep away from (curate.exclude)"}
STAYS = {"reason": None, "detail": ""}


def decide(corpus: Corpus, config: Config, folder: Path) -> None:
    """Let workers read all of download, and write what `Decisions` opens."""
    with ExitStack() as stack:
        room = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=folder)))
        asked = Asked(config, exclude.write(config, room / "avoided.parquet"))
        files = corpus.gathered(inputs_of(config), facts_of, asked)
        counted = counting.counted(files, corpus, config, room, stack)
        counting.write(counted, list(files), folder)
        rows = survivors(files, counted, room, stack)
        _write(_decided(rows, config, corpus, room), rows, folder)


@dataclass(frozen=True)
class Decided:
    """What becomes of survivors."""

    gone: Positions  # ascending
    there: Positions  # of each the one that stays in its place
    lost: tuple[Array, Array]  # which of `gone`, and a place among its captions
    handed: Handed
    meant: Verdicts  # of some of `gone`, by position


def _decided(rows: Survivors, config: Config, corpus: Corpus, room: Path) -> Decided:
    gone, there = _elsewhere(rows, config, corpus, room)
    meant: Verdicts = {}
    if config.max_cosine is not None:
        gone, there, meant = same_meaning(rows, gone, there, config, corpus, room)
    same = rows.image_ids[gone] == rows.image_ids[there]
    united = same & (config.reads_corpus | (rows.shards(gone) == rows.shards(there)))
    items = rows.items(np.unique(np.concatenate([gone, there])))
    here, to = gone[united], there[united]
    asked = {}
    for number, own in rows.by_shard(here):
        first = int(np.searchsorted(here, own[0]))
        goes_to = to[first : first + len(own)]
        listed = rows.rows[own].tolist(), own.tolist(), goes_to.tolist()
        asked[rows.names[number]] = Handing(*listed, config, rows.counted.similarity_floor(number))
    inputs = inputs_of(config) | {"download": ("image_id", "captions")}
    files = corpus.answers(inputs, captions_at, asked)
    handed = Handed(files, not config.reads_corpus, np.sort(to))
    return Decided(gone, there, lost(items, gone, there, united), handed, meant)


def _elsewhere(rows: Survivors, config: Config, corpus: Corpus, room: Path) -> tuple[Positions, Positions]:
    if not config.unite_duplicates:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    alike = None if config.max_distance is None else Alike(config.max_distance, config.max_colour_distance)

    def colours(positions: Positions) -> pa.ChunkedArray:
        return colours_in(corpus, "download", rows.rows_of(positions))

    return elsewhere(Images(rows.image_ids, rows.phashes, rows.pictured), alike, colours, room)


def _write(decided: Decided, rows: Survivors, folder: Path) -> None:
    """The decisions, shard by shard."""
    writing = Writing(folder / ROWS)
    with_some = np.unique(np.concatenate([decided.gone, decided.handed.there]))
    for number in np.unique(np.concatenate([rows.shards(with_some), rows.excluded[0]])).tolist():
        first, last = np.searchsorted(rows.excluded[0], [number, number + 1])
        found = {row: {**EXCLUDED, "captions": [], "lost": []} for row in rows.excluded[1][first:last].tolist()}
        found |= {int(rows.rows[here]): decision for here, decision in _of_shard(decided, rows, number).items()}
        facts, taken = opened(rows.files[number]), sorted(found)
        own = facts.select(["key", "occurrence"]).take(pa.array(taken, pa.int64())).to_pylist()
        listed = [
            {"row": one["key"], "occurrence": one["occurrence"], **found[row]}
            for row, one in zip(taken, own, strict=True)
        ]
        writing.add(rows.names[number], pa.Table.from_pylist(listed, OF_A_ROW))
    writing.end()


def _of_shard(decided: Decided, rows: Survivors, number: int) -> dict[int, dict[str, Any]]:
    """Of the survivors of a shard that go or get captions the decision, by position."""
    low, high = int(rows.ends[number - 1]) if number else 0, int(rows.ends[number])
    found: dict[int, dict[str, Any]] = {}
    for there, captions in decided.handed.to(rows.names[number], low, high):
        found.setdefault(there, {**STAYS, "captions": [], "lost": []})["captions"] += captions
    first, last = np.searchsorted(decided.gone, [low, high]).tolist()
    begins, ends = (np.searchsorted(decided.lost[0], np.arange(first, last), side=side) for side in ("left", "right"))
    for turn, begin, end in zip(range(first, last), begins.tolist(), ends.tolist(), strict=True):
        places = decided.lost[1][begin:end].tolist()
        here, there = int(decided.gone[turn]), int(decided.there[turn])
        verdict = decided.meant.get(here) or _verdict(rows, here, there, bool(places))
        found[here] = {**verdict, "captions": [], "lost": places}
    return found


def _verdict(rows: Survivors, here: int, there: int, loses: bool) -> dict[str, Any]:
    """Of a row that goes. loses: whether captions are lost with it."""
    kept = bytes(rows.image_ids[there])
    if bytes(rows.image_ids[here]) != kept:
        distance = (int(rows.phashes[here]) ^ int(rows.phashes[there])).bit_count()
        return {"reason": "near-duplicate", "detail": f"of {kept.hex()}, {distance} bits apart"}
    place = "which has its captions too"
    if loses:
        name = rows.names[int(rows.shards(np.array([there]))[0])]
        place = f"in shard {name}; captions of it are only here"
    return {"reason": "duplicate", "detail": f"of {kept.hex()}, {place}"}
