"""What only the whole corpus can say of a row, as `deciding` wrote it: looked up shard by shard."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pairloom.errors import StoreError
from pairloom.extra import as_dict
from schemas.pairs import CAPTION
from stages.curate.by_shard import Reading
from stages.curate.config import Config
from stages.curate.rules import Facts
from stages.score.lookup import Said

ROWS = "decisions"  # folders of by_shard
SHARDS = "shards"  # what is known of each shard as a whole
IMAGES = "images"  # with many captions
OF_A_ROW = pa.schema(
    [
        pa.field("row", pa.binary(16), nullable=False),  # `row_key`: what the row holds
        pa.field("occurrence", pa.int32(), nullable=False),  # 0 for the shard's first row that holds this, 1 …
        pa.field("reason", pa.string()),  # duplicate, near-duplicate or excluded; null: it stays
        pa.field("detail", pa.string(), nullable=False),
        pa.field("captions", pa.list_(CAPTION), nullable=False),  # that duplicates hand to it, as downloaded
        pa.field("lost", pa.list_(pa.int32()), nullable=False),  # positions among its captions that pass the rules
    ]
)
OF_A_SHARD = pa.schema(
    [
        pa.field("repeated", pa.large_list(pa.uint64()), nullable=False),  # hashes of captions of too many images
        pa.field("score_floor", pa.float32()),
        pa.field("similarity_floor", pa.float32()),
    ]
)
OF_AN_IMAGE = pa.schema([pa.field("image_id", pa.binary(16))])
DECIDED = ("reason", "detail", "captions", "lost")  # the fields of Decision
Key = tuple[bytes, int]  # row_key, occurrence


@dataclass(frozen=True)
class Decision:
    """What the corpus says of a row that has duplicates."""

    reason: str | None
    detail: str
    captions: list[dict[str, Any]]
    lost: list[int]


NOTHING = Decision(None, "", [], [])


def row_key(row: Mapping[str, Any]) -> bytes:
    """16 bytes that stand for url, image and captions of a row."""
    content = json.dumps([row["url"], row["image_id"].hex(), row["captions"]], ensure_ascii=False)
    return hashlib.blake2b(content.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def keys(rows: list[dict[str, Any]]) -> list[Key]:
    """The key of each row. Equal rows are told apart by their order."""
    seen: Counter[bytes] = Counter()
    found = []
    for row in rows:
        digest = row_key(row)
        found.append((digest, seen[digest]))
        seen[digest] += 1
    return found


@dataclass(frozen=True)
class OfShard:
    """What counts for the rows of one shard."""

    repeated: frozenset[int] = frozenset()
    score_floor: float | None = None
    similarity_floor: float | None = None
    crowded: frozenset[bytes] = frozenset()  # image ids


class Decisions:
    """The decisions of all shards, as `deciding.decide` wrote them. Those of a shard are read when it is asked for."""

    def __init__(self, folder: Path) -> None:
        if not (folder / ROWS).is_dir():
            raise StoreError("what was decided over the corpus is not there", str(folder), "delete it and run again")
        self._rows, self._shards, self._images = (Reading(folder / name) for name in (ROWS, SHARDS, IMAGES))
        self._last: tuple[str, OfShard] = ("", OfShard())

    def of(self, shard: str) -> dict[Key, Decision]:
        """Those of one shard. A row that is not among them stays as it is."""
        found = _listed(self._rows.of(shard))
        return {(r["row"], r["occurrence"]): Decision(*(r[name] for name in DECIDED)) for r in found}

    def facts(self, row: Mapping[str, Any], shard: str, config: Config, size: int, said: Said) -> Facts:
        """What the rules know of a row of this shard; size: bytes of its image; said: of the shard by `score`."""
        if self._last[0] != shard:
            self._last = (shard, self._of_shard(shard))
        known = self._last[1]
        return Facts(
            width=row["original_width"],
            height=row["original_height"],
            bytes=size,
            captions=(config.max_image_captions or 0) + 1 if row["image_id"] in known.crowded else 0,
            score=score_of(row, config),
            score_floor=known.score_floor,
            repeated=known.repeated,
            similarity=said.similarity.get(row["image_id"], {}),
            similarity_floor=known.similarity_floor,
            heads=said.heads.get(row["image_id"], {}),
        )

    def _of_shard(self, shard: str) -> OfShard:
        crowded = frozenset(row["image_id"] for row in _listed(self._images.of(shard)))
        for row in _listed(self._shards.of(shard)):
            return OfShard(frozenset(row["repeated"]), row["score_floor"], row["similarity_floor"], crowded)
        return OfShard(crowded=crowded)


def _listed(rows: pa.Table | None) -> list[dict[str, Any]]:
    return [] if rows is None else rows.to_pylist()


def score_of(row: Mapping[str, Any], config: Config) -> float | None:
    """The number in the row's score column, if there is one."""
    if config.score_column is None:
        return None
    try:
        value = float(np.float32(as_dict(row["extra"]).get(config.score_column, "nan")))
    except ValueError:
        return None
    return None if np.isnan(value) else value


def image_sizes(pairs: pa.Table, config: Config) -> list[int]:
    """Bytes of each stored image, if a rule asks for them. Enough for it where a pair came without its picture."""
    if not config.min_bytes:
        return [0] * pairs.num_rows
    sizes: list[int] = pc.fill_null(pc.binary_length(pairs["image"]), config.min_bytes).to_pylist()
    return sizes
