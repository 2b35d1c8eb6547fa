"""Which rows of the whole corpus repeat an earlier one: decided once over all shards, looked up shard by shard.

The earliest row in list order that passes the rules stays. Captions of an exact duplicate are added to the row that
stays if both lie in the same shard. Across shards they stay with the duplicate, in the quarantine table, so that lines
added to the list later change no shard that is done.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from schemas.pairs import CAPTION
from stages.contract import Corpus
from stages.curate.rules import Config, judge

FILE = "decisions.parquet"
COLUMNS = ("image_id", "phash", "width", "height", "url", "captions")
SCHEMA = pa.schema(
    [
        pa.field("shard", pa.string(), nullable=False),
        pa.field("row", pa.binary(16), nullable=False),  # `row_key`: what the row holds
        pa.field("occurrence", pa.int32(), nullable=False),  # 0 for the shard's first row that holds this, 1 …
        pa.field("reason", pa.string()),  # duplicate or near-duplicate; null: it stays
        pa.field("detail", pa.string(), nullable=False),
        pa.field("captions", pa.list_(CAPTION), nullable=False),  # of its duplicates in the same shard, as downloaded
    ]
)
Key = tuple[bytes, int]  # row_key, occurrence


@dataclass(frozen=True)
class Decision:
    """What the corpus says of a row that has duplicates."""

    reason: str | None
    detail: str
    captions: list[dict[str, Any]]


NOTHING = Decision(None, "", [])


def row_key(row: Mapping[str, Any]) -> bytes:
    """16 bytes that stand for url, image and captions of a row."""
    content = json.dumps([row["url"], row["image_id"].hex(), row["captions"]], ensure_ascii=False)
    return hashlib.blake2b(content.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def keys(rows: list[dict[str, Any]]) -> list[Key]:
    """The key of each row; equal rows are told apart by their order."""
    seen: Counter[bytes] = Counter()
    found = []
    for row in rows:
        digest = row_key(row)
        found.append((digest, seen[digest]))
        seen[digest] += 1
    return found


@dataclass(frozen=True)
class Decisions:
    """The decisions of all shards, as `decide` wrote them."""

    table: pa.Table

    @classmethod
    def open(cls, folder: Path) -> Decisions:
        return cls(pq.read_table(folder / FILE))

    def of(self, shard: str) -> dict[Key, Decision]:
        """Those of one shard; a row that is not among them stays as it is."""
        found = self.table.filter(pc.equal(self.table["shard"], shard)).to_pylist()
        return {(r["row"], r["occurrence"]): Decision(r["reason"], r["detail"], r["captions"]) for r in found}


@dataclass
class _Survivors:
    """The rows that pass the rules by themselves, over all shards, in list order."""

    shards: list[str] = field(default_factory=list)
    keys: list[Key] = field(default_factory=list)
    image_ids: list[bytes] = field(default_factory=list)
    phashes: list[int] = field(default_factory=list)
    captions: list[list[dict[str, Any]]] = field(default_factory=list)

    def add(self, shard: str, key: Key, row: dict[str, Any]) -> None:
        self.shards.append(shard)
        self.keys.append(key)
        self.image_ids.append(row["image_id"])
        self.phashes.append(row["phash"])
        self.captions.append(row["captions"])


def decide(corpus: Corpus, config: Config, folder: Path) -> None:
    """Read all of download once and write FILE into the folder."""
    rows = _Survivors()
    for shard, table in corpus.tables("download", COLUMNS):
        listed = table.to_pylist()
        for key, row in zip(keys(listed), listed, strict=True):
            if judge(row["width"], row["height"], row["captions"], config).reason is None:
                rows.add(shard, key, row)
    pq.write_table(pa.Table.from_pylist(list(_decisions(rows, config)), SCHEMA), folder / FILE)


def _decisions(rows: _Survivors, config: Config) -> Iterator[dict[str, Any]]:
    stays = kept_positions(np.array(rows.image_ids, "V16"), np.array(rows.phashes, np.uint64), config.max_distance)
    united: dict[int, list[dict[str, Any]]] = {}
    for here, there in enumerate(stays):
        if _unites(rows, here, there):
            united.setdefault(int(there), []).extend(rows.captions[here])
    for here, there in enumerate(stays):
        if here != there or here in united:
            key, occurrence = rows.keys[here]
            yield {
                "shard": rows.shards[here],
                "row": key,
                "occurrence": occurrence,
                **_verdict(rows, here, int(there)),
                "captions": united.get(here, []),
            }


def _unites(rows: _Survivors, here: int, there: int) -> bool:
    same_shard = rows.shards[here] == rows.shards[there]
    return here != there and same_shard and rows.image_ids[here] == rows.image_ids[there]


def _verdict(rows: _Survivors, here: int, there: int) -> dict[str, Any]:
    if here == there:
        return {"reason": None, "detail": ""}
    kept = rows.image_ids[there].hex()
    if rows.image_ids[here] != rows.image_ids[there]:
        distance = (rows.phashes[here] ^ rows.phashes[there]).bit_count()
        return {"reason": "near-duplicate", "detail": f"of {kept}, {distance} bits apart"}
    united = _unites(rows, here, there)
    place = "which has its captions too" if united else f"in shard {rows.shards[there]}; its captions are only here"
    return {"reason": "duplicate", "detail": f"of {kept}, {place}"}


def kept_positions(
    image_ids: npt.NDArray[np.void], phashes: npt.NDArray[np.uint64], max_distance: int | None
) -> npt.NDArray[np.int64]:
    """For each image the position of the earlier one that stays in its place, or its own."""
    from stages.curate.duplicates import first_with_same_id, near_kept  # here: numba takes its time to load

    first = first_with_same_id(image_ids)
    if max_distance is None:
        return first
    distinct = np.flatnonzero(first == np.arange(len(first)))
    near = near_kept(phashes[distinct], max_distance)
    stays = np.arange(len(first))
    stays[distinct] = np.where(near < 0, distinct, distinct[near])
    return stays[first]
