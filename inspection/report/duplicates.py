"""Images that went as duplicates, each beside the one that stayed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from inspection import drawing
from inspection.dataset import Dataset
from inspection.examples import Example, examples
from inspection.spread import spread

HEX_ID = re.compile(r"\b[0-9a-f]{32}\b")
OF_EACH = 4  # reasons: the same bytes, the same look, the same meaning
SHARDS_READ = 4  # of quarantine
CAPTIONS = 3  # shown of each


@dataclass(frozen=True)
class Side:
    """One of two images. image: a data URI, "" where no table here has the picture."""

    image_id: str
    image: str
    url: str
    captions: list[str]


@dataclass(frozen=True)
class Duplicate:
    """An image that was left out, and the earlier one that it is like."""

    reason: str
    detail: str
    dropped: Side
    stayed: Side


def duplicates(found: Dataset) -> list[Duplicate]:
    """The first OF_EACH of each reason in a few shards of the quarantine of `curate`."""
    chosen = _choose(found)
    gone = _found(found, [(shard, bytes.fromhex(row["key"])) for shard, row in chosen])
    others = [bytes.fromhex(_other(row)) for _, row in chosen]
    stayed = _found(found, _places(found, set(others)))
    return [
        Duplicate(
            row["reason"], row["detail"], _dropped(row, gone.get((shard, row["key"]))),
            _stayed(other.hex(), stayed),
        )
        for (shard, row), other in zip(chosen, others, strict=True)
    ]  # fmt: skip


def _choose(found: Dataset) -> list[tuple[str, dict[str, Any]]]:
    """(shard, row of quarantine)."""
    rejects = found.rejects.get("curate")
    by_reason: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for entry in spread(rejects.shards, SHARDS_READ) if rejects else ():
        table = rejects.read(entry.name, ["key", "reason", "detail", "row"]) if rejects else None
        for row in table.filter(pc.match_substring(table["reason"], "duplicate")).to_pylist() if table else ():
            kept = by_reason.setdefault(row["reason"], [])
            if len(kept) < OF_EACH and HEX_ID.fullmatch(row["key"]) and _other(row):
                kept.append((entry.name, row))
    return [one for reason in sorted(by_reason) for one in by_reason[reason]]


def _other(row: dict[str, Any]) -> str:
    """The image that stayed, as the detail names it: `of <image_id>, …`."""
    named = HEX_ID.search(row["detail"] or "")
    return named[0] if named else ""


def _places(found: Dataset, ids: set[bytes]) -> list[tuple[str, bytes]]:
    """(shard, image) of those that stayed, as far as they are in the shards that are looked at."""
    folder, missing, places = found.tables.get("curate"), set(ids), []
    for entry in spread(folder.shards) if folder else ():
        if folder is None or not missing:
            break
        there = folder.read(entry.name, ["image_id"])["image_id"]
        here = set(there.filter(pc.is_in(there, pa.array(list(missing), pa.binary(16)))).to_pylist())
        places += [(entry.name, image_id) for image_id in sorted(here)]
        missing -= here
    return places


def _found(found: Dataset, places: Iterable[tuple[str, bytes]]) -> dict[tuple[str, str], Example]:
    """(shard, image_id in hex) -> what the tables say of it."""
    by_shard: dict[str, list[bytes]] = {}
    for shard, image_id in places:
        by_shard.setdefault(shard, []).append(image_id)
    return {(shard, one.image_id): one for shard, ids in by_shard.items() for one in examples(found, shard, ids)}


def _dropped(row: dict[str, Any], example: Example | None) -> Side:
    """With its own url and captions: an equal picture that stayed has others."""
    values = json.loads(row["row"])
    texts = [str(caption.get("text", "")) for caption in values.get("captions") or []][:CAPTIONS]
    return Side(row["key"], drawing.data_uri(example.image) if example else "", str(values.get("url") or ""), texts)


def _stayed(image_id: str, stayed: dict[tuple[str, str], Example]) -> Side:
    one = next((example for (_, named), example in stayed.items() if named == image_id), None)
    if one is None:
        return Side(image_id, "", "", [])
    return Side(image_id, drawing.data_uri(one.image), one.url, [caption.text for caption in one.captions][:CAPTIONS])
