"""What the pages show of a row: its picture with regions, captions with negatives, tags, and all values as JSON."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from inspection.browse.data import NOT_SHOWN, Data, Row, Table
from inspection.examples import Caption, Region, regions_of
from inspection.signs import same_but_numbers
from pairloom.extra import as_dict
from pairloom.layout import BLOBS

COLOURS = 8  # of boxes, by class


@dataclass(frozen=True)
class Box:
    """A region as the page draws it."""

    region: Region
    rank: int
    colour: int


@dataclass(frozen=True)
class Negative:
    """A hard negative of a caption."""

    image_id: str
    caption_index: int
    text: str
    similarity: float
    same_words: bool  # as the caption, numbers apart


@dataclass(frozen=True)
class Described(Caption):
    """A caption with its kind, what it was before cleaning, and its negatives with their images."""

    kind: str = ""
    original: str = ""
    hard: tuple[Negative, ...] = ()


@dataclass(frozen=True)
class Card:
    """A row for a page. picture: (stage, shard, row) of its picture, None where there is none."""

    shard: str
    row: int
    image_id: str
    width: int
    height: int
    title: str
    picture: tuple[str, str, int] | None
    boxes: tuple[Box, ...]
    captions: tuple[Described, ...]
    tags: tuple[tuple[str, float], ...]
    facts: dict[str, str]  # source, licence, url …

    @property
    def num_negatives(self) -> int:
        return sum(len(caption.hard) for caption in self.captions)


def cards(data: Data, table: Table, rows: Sequence[Row]) -> list[Card]:
    """One card a row. Pictures of a table beside are found by their image."""
    places = _picture_rows(data, table, rows)
    owner = table.every_column.get("class_ids")
    names = data.vocabulary(owner) if owner else {}
    stage = table.pictures.path.name if table.pictures else ""
    return [card(row, names, (stage, row["shard"], places[i]) if i in places else None) for i, row in enumerate(rows)]


def _picture_rows(data: Data, table: Table, rows: Sequence[Row]) -> dict[int, int]:
    """Number of a row on the page -> row of its picture in its shard."""
    if table.pictures is None:
        return {}
    if table.pictures is table.folder:
        return {i: row["row"] for i, row in enumerate(rows)}
    found: dict[int, int] = {}
    for shard in dict.fromkeys(row["shard"] for row in rows):
        ids = [row["image_id"] for row in rows if row["shard"] == shard]
        if table.pictures.here(shard).exists():
            there = {row["image_id"]: row["row"] for row in data.by_id(table.pictures, shard, ids, [])}
            found |= {
                i: there[row["image_id"]]
                for i, row in enumerate(rows)
                if row["shard"] == shard and row["image_id"] in there
            }
    return found


def card(row: Row, names: Mapping[str, list[str]], picture: tuple[str, str, int] | None) -> Card:
    captions = _captions(row)
    regions = regions_of({**row, **names}) if row.get("boxes") is not None else ()
    colours = {name: i % COLOURS for i, name in enumerate(dict.fromkeys(region.name for region in regions))}
    image_id = row["image_id"].hex() if "image_id" in row else ""
    shown = ("source", "licence", "url", "split", "format", "reason", "detail")
    return Card(
        shard=row["shard"],
        row=row["row"],
        image_id=image_id,
        width=row.get("width") or 0,
        height=row.get("height") or 0,
        title=captions[0].text if captions else str(row.get("text") or row.get("url") or image_id),
        picture=picture,
        boxes=tuple(Box(region, rank, colours[region.name]) for rank, region in enumerate(regions)),
        captions=captions,
        tags=tuple((tag["text"], tag["score"]) for tag in row.get("tags") or ()),
        facts={name: str(row[name]) for name in shown if row.get(name)} | as_dict(row.get("extra")),
    )


def _captions(row: Row) -> tuple[Described, ...]:
    captions = row.get("captions") or []
    negatives = row.get("negatives") or [[]] * len(captions)
    short = row.get("short") or [0] * len(captions)
    return tuple(
        Described(
            text=caption["text"],
            lang=caption.get("lang") or "",
            short=missing,
            kind=caption.get("kind") or "",
            original=caption.get("original") or "",
            hard=tuple(_negative(caption["text"], negative) for negative in of_caption),
        )
        for caption, of_caption, missing in zip(captions, negatives, short, strict=False)
    )


def _negative(caption: str, negative: Mapping[str, Any]) -> Negative:
    return Negative(
        negative["image_id"].hex(),
        negative["caption_index"],
        negative["text"],
        negative["similarity"],
        same_but_numbers(caption, negative["text"]),
    )


def as_json(row: Row) -> str:
    """A row for a reader: ids in hex, packed numbers as lists, no vectors and no picture."""
    return json.dumps(
        {name: _plain(name, value) for name, value in row.items() if name not in NOT_SHOWN},
        indent=1,
        ensure_ascii=False,
    )


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, bytes):
        if name in BLOBS:
            return [round(number, 4) for number in np.frombuffer(value, BLOBS[name].dtype).tolist()]
        return value.hex()
    if isinstance(value, dict):
        return {key: _plain(key, item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(name, item) for item in value]
    return value


def thumbnail(image: bytes, longest: int) -> tuple[bytes, str]:
    """The picture as a JPEG of at most so many pixels a side, and its media type."""
    with Image.open(io.BytesIO(image)) as opened:
        opened.draft("RGB", (longest, longest))  # a JPEG is decoded at a part of its size
        small = opened.convert("RGB")
    small.thumbnail((longest, longest), Image.Resampling.BILINEAR)
    sink = io.BytesIO()
    small.save(sink, "JPEG", quality=80)
    return sink.getvalue(), "image/jpeg"


def media_type(image: bytes) -> str:
    """By the first bytes. What is no picture that the tables hold is sent as plain bytes, never as a page."""
    for start, kind in ((b"\xff\xd8", "image/jpeg"), (b"\x89PNG", "image/png"), (b"RIFF", "image/webp")):
        if image.startswith(start):
            return kind
    return "application/octet-stream"
