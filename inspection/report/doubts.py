"""Mined captions that may fit the picture after all: counted by signs, in rows spread over the table of negatives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from inspection.dataset import Dataset
from inspection.signs import same_but_numbers
from inspection.spread import spread

ROWS = 1000  # whose negatives are looked at
SHARDS_READ = 10  # that they are spread over
EXAMPLES = 8  # shown


@dataclass(frozen=True)
class Doubtful:
    """A negative with a sign."""

    caption: str
    negative: str
    similarity: float
    same_words: bool  # but for numbers
    tags: list[str]  # all tags of the true picture, if the negative's picture has each of them, too, else none


@dataclass(frozen=True)
class Doubts:
    """How many negatives of how many rows have a sign, and the most similar of them."""

    rows: int
    negatives: int
    same_words: int
    every_tag: int
    either: int
    tagged: bool  # whether there is a table of tags
    examples: list[Doubtful]


def doubts(found: Dataset) -> Doubts | None:
    """None where no table has negatives."""
    rows = list(_rows(found))
    if not rows:
        return None
    wanted = {row["image_id"] for row in rows}
    wanted |= {negative["image_id"] for row in rows for negatives in row["negatives"] for negative in negatives}
    tags = _tags(found, wanted)
    judged = [one for row in rows for one in _judge(row, tags or {})]
    signed = [one for one in judged if one.same_words or one.tags]
    return Doubts(
        rows=len(rows),
        negatives=len(judged),
        same_words=sum(one.same_words for one in signed),
        every_tag=sum(bool(one.tags) for one in signed),
        either=len(signed),
        tagged=tags is not None,
        examples=sorted(signed, key=lambda one: (not one.same_words, -one.similarity))[:EXAMPLES],
    )


def _rows(found: Dataset) -> Iterator[dict[str, Any]]:
    """image_id, captions and negatives of ROWS rows."""
    folder = found.tables.get("negatives") or found.tables.get("shards")
    captions = found.tables.get("curate") if "negatives" in found.tables else folder
    if folder is None or captions is None:
        return
    entries = [entry for entry in spread(folder.shards, SHARDS_READ) if entry.rows]
    each = -(-ROWS // max(len(entries), 1))
    there = {entry.name for entry in captions.shards}
    for entry in entries:
        if entry.name in there:
            table = folder.read(entry.name, ["image_id", "negatives"]).slice(0, each)
            own = captions.read(entry.name, ["image_id", "captions"])
            own = own.filter(pc.is_in(own["image_id"], table["image_id"].combine_chunks()))
            texts = dict(zip(own["image_id"].to_pylist(), own["captions"].to_pylist(), strict=True))
            yield from (row | {"captions": texts[row["image_id"]]} for row in table.to_pylist()
                        if row["image_id"] in texts)  # fmt: skip


def _tags(found: Dataset, wanted: set[bytes]) -> dict[bytes, frozenset[str]] | None:
    """image_id -> texts of its tags, for these images as far as they are in the shards that are looked at."""
    folder = found.tables.get("tags") or found.tables.get("shards")
    if folder is None:
        return None
    ids = pa.array(list(wanted), pa.binary(16))
    tags: dict[bytes, frozenset[str]] = {}
    for entry in spread(folder.shards):
        table = folder.read(entry.name, ["image_id", "tags"])
        table = table.filter(pc.is_in(table["image_id"], ids))
        for image_id, named in zip(table["image_id"].to_pylist(), table["tags"].to_pylist(), strict=True):
            tags[image_id] = frozenset(tag["text"] for tag in named or ())
    return tags


def _judge(row: dict[str, Any], tags: dict[bytes, frozenset[str]]) -> Iterator[Doubtful]:
    own = tags.get(row["image_id"], frozenset())
    for caption, negatives in zip(row["captions"], row["negatives"], strict=False):
        for negative in negatives:
            shared = bool(own) and own <= tags.get(negative["image_id"], frozenset())
            yield Doubtful(
                caption["text"], negative["text"], negative["similarity"],
                same_but_numbers(caption["text"], negative["text"]), sorted(own) if shared else [],
            )  # fmt: skip
