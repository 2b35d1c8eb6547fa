"""What a worker finds in one shard for the decisions over the corpus: a few numbers a row, no text."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pairloom.table import Array
from stages.curate import exclude
from stages.curate.config import Config
from stages.curate.decisions import image_sizes, keys, score_of
from stages.curate.repeats import text_hash
from stages.curate.rules import Facts, Verdict, judge
from stages.curate.text import clean
from stages.score import lookup

COLUMNS = ("image_id", "sha256", "phash", "original_width", "original_height", "url", "captions", "extra")
HASHES = pa.list_(pa.uint64())
SCHEMA = pa.schema(
    [
        pa.field("key", pa.binary(16)),  # decisions.row_key
        pa.field("occurrence", pa.int32()),
        pa.field("image_id", pa.binary(16)),
        pa.field("phash", pa.uint64()),  # 0 without a picture
        pa.field("pictured", pa.bool_()),
        pa.field("passes", pa.bool_()),  # the rules that need no other row
        pa.field("excluded", pa.bool_()),
        pa.field("num_captions", pa.int32()),  # as downloaded
        pa.field("score", pa.float32()),  # NaN for none
        pa.field("texts", HASHES),  # of its cleaned captions, each once, none where nothing counts them
        pa.field("captions", HASHES),  # of those that pass, with their languages
        pa.field("passing", HASHES),  # of those that pass, as in `texts`, none where nothing counts them
        # of those that pass, by stage `score`. NaN for none, and none where no share of them is asked for
        pa.field("similarity", pa.list_(pa.float32())),
    ]
)


def inputs_of(config: Config) -> dict[str, tuple[str, ...]]:
    """The columns that are read of each input."""
    of_download = (*COLUMNS, "image") if config.min_bytes else COLUMNS
    return {"download": of_download} | ({"score": lookup.COLUMNS} if config.scored else {})


@dataclass(frozen=True)
class Asked:
    """By what rows are judged: the settings, and the file of `exclude.write`, if anything is excluded."""

    config: Config
    avoided: Path | None


def facts_of(table: pa.Table, *score: pa.Table, argument: Asked) -> pa.Table:
    """SCHEMA, a row for each of these pairs (inputs_of). score: the same shard of `score`, if the settings ask."""
    config, said = argument.config, lookup.said(*score)
    rows = table.drop_columns(["image"] if config.min_bytes else []).to_pylist()
    scores = [score_of(row, config) for row in rows]
    verdicts = [
        judge(_alone(row, size, number, said), row["captions"], config)
        for row, size, number in zip(rows, image_sizes(table, config), scores, strict=True)
    ]
    own = keys(rows)
    counted = config.max_repeats is not None or config.max_repeat_share is not None
    phashes = pc.fill_null(table["phash"], pa.scalar(0, pa.uint64()))
    pictured = table["phash"].is_valid()
    content = {
        "key": [key for key, _ in own],
        "occurrence": [occurrence for _, occurrence in own],
        "image_id": table["image_id"],
        "phash": phashes,
        "pictured": pictured,
        "passes": [verdict.reason is None for verdict in verdicts],
        "excluded": _excluded(rows, phashes.to_numpy(), pictured.to_numpy(), argument),
        "num_captions": pc.list_value_length(table["captions"]),
        "score": [np.nan if score is None else score for score in scores],
        "texts": [_texts(row) if counted else [] for row in rows],
        "captions": [_captions(verdict) for verdict in verdicts],
        "passing": [_passing(verdict) if counted else [] for verdict in verdicts],
        "similarity": [
            _similarities(row, verdict, said) if config.top_similarity is not None else []
            for row, verdict in zip(rows, verdicts, strict=True)
        ],
    }
    arrays = [_array(content[each.name], each.type) for each in SCHEMA]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def _array(values: Any, kind: pa.DataType) -> Any:
    return values.cast(kind) if isinstance(values, pa.ChunkedArray) else pa.array(values, kind)


def _alone(row: dict[str, Any], size: int, score: float | None, said: lookup.Said) -> Facts:
    """What the rules know of a row without the others."""
    return Facts(
        width=row["original_width"],
        height=row["original_height"],
        bytes=size,
        score=score,
        similarity=said.similarity.get(row["image_id"], {}),
        heads=said.heads.get(row["image_id"], {}),
    )


def _texts(row: dict[str, Any]) -> list[int]:
    texts = dict.fromkeys(clean(caption["text"]) for caption in row["captions"])
    return [text_hash(text) for text in texts if text]


def _captions(verdict: Verdict) -> list[int]:
    if verdict.reason is not None:
        return []
    return [text_hash(f"{caption['lang']}\n{caption['text']}") for caption in verdict.captions]


def _passing(verdict: Verdict) -> list[int]:
    return [] if verdict.reason is not None else [text_hash(caption["text"]) for caption in verdict.captions]


def _similarities(row: dict[str, Any], verdict: Verdict, said: lookup.Said) -> list[float]:
    if verdict.reason is not None:
        return []
    known = said.similarity.get(row["image_id"], {})
    return [known.get(caption["text"], math.nan) for caption in verdict.captions]


def similarities_of(table: pa.Table, argument: None) -> pa.Table:
    """What a shard of `score` says of its captions, all in one column."""
    values = pc.drop_null(pc.list_flatten(table["similarity"])).cast(pa.float32())
    return pa.table({"similarity": values})


def _excluded(rows: list[dict[str, Any]], phashes: Array, pictured: Array, asked: Asked) -> Array:
    """Which images are on a list to keep away from, or look like one of it."""
    if asked.avoided is None:
        return np.zeros(len(rows), np.bool_)
    avoided = exclude.opened(asked.avoided)
    listed = np.array([not avoided.ids.isdisjoint((row["image_id"], row["sha256"])) for row in rows], np.bool_)
    if not len(avoided.phashes):
        return listed
    from stages.curate.duplicates import near_any  # numba takes its time to load

    return listed | (pictured & near_any(phashes, avoided.phashes, asked.config.exclude_distance))
