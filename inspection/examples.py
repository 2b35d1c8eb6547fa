"""One image with everything that the tables say of it: captions, negatives, regions and tags, joined for a reader."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from inspection.dataset import Dataset
from inspection.tables import column_names
from pairloom.store.folder import Folder

PAIRS = ("image", "format", "width", "height", "url", "licence", "source", "captions")
REGIONS = ("num_regions", "boxes", "class_ids", "class_scores", "attribute_ids", "attribute_scores")
OTHERS = ("tags", "negatives", "short", "split")


@dataclass(frozen=True)
class Region:
    """A region with its words; box is x1 y1 x2 y2 in pixels of the stored image."""

    box: tuple[float, float, float, float]
    name: str
    score: float
    attribute: str
    attribute_score: float
    tagged: bool = True  # it gave the image a tag. True where no table of tags says otherwise


@dataclass(frozen=True)
class Caption:
    """A caption, its hard negatives as (text, similarity), most similar first, and how many are missing."""

    text: str
    lang: str
    negatives: tuple[tuple[str, float], ...] = ()
    short: int = 0


@dataclass(frozen=True)
class Example:
    """An image as the tables have it. What no table has is empty."""

    image_id: str
    image: bytes
    width: int
    height: int
    url: str = ""
    licence: str = ""
    source: str = ""
    captions: tuple[Caption, ...] = ()
    regions: tuple[Region, ...] = ()
    tags: tuple[tuple[str, int, float], ...] = ()  # text, region, score


def examples(found: Dataset, name: str, image_ids: Collection[bytes]) -> list[Example]:
    """These images of shard `name`, from every table that has such a shard. Those without a picture are left out."""
    rows: dict[bytes, dict[str, Any]] = {image_id: {} for image_id in image_ids}
    for folder in found.best():
        columns = _columns(folder)
        if columns and any(entry.name == name for entry in folder.shards):
            _merge(rows, folder, name, columns)
    return [_example(image_id, row) for image_id, row in rows.items() if row.get("image")]


def _columns(folder: Folder) -> list[str]:
    """What the table says of an image. Of its picture only a table that holds the picture."""
    there = column_names(folder.table)
    return [name for name in (*PAIRS, *REGIONS, *OTHERS) if name in there and (name not in PAIRS or "image" in there)]


def _merge(rows: dict[bytes, dict[str, Any]], folder: Folder, name: str, columns: Collection[str]) -> None:
    """Add the folder's columns to the rows of the same images. What a better table gave stays."""
    wanted = pa.array(list(rows), pa.binary(16))
    first = folder.read(name, ["image_id"])
    places = pc.indices_nonzero(pc.is_in(first["image_id"], wanted))
    if not len(places):
        return  # nothing heavy is read in vain
    table = folder.read(name, ["image_id", *columns]).take(places)
    names = words(folder.metadata(name)) if "class_ids" in columns else {}
    for row in table.to_pylist():
        rows[row["image_id"]] = {**row, **names, **rows[row["image_id"]]}


def words(metadata: Mapping[str, str]) -> dict[str, list[str]]:
    """The vocabularies of a shard of regions, under the names by which `regions_of` finds them."""
    return {f"names of {key}": json.loads(metadata.get(key, "[]")) for key in ("classes", "attributes")}


def _example(image_id: bytes, row: Mapping[str, Any]) -> Example:
    return Example(
        image_id=image_id.hex(),
        image=row["image"],
        width=row["width"],
        height=row["height"],
        url=row.get("url") or "",
        licence=row.get("licence") or "",
        source=row.get("source") or "",
        captions=_captions(row),
        regions=regions_of(row) if "boxes" in row else (),
        tags=tuple((tag["text"], tag["region"], tag["score"]) for tag in row.get("tags") or ()),
    )


def _captions(row: Mapping[str, Any]) -> tuple[Caption, ...]:
    captions = row.get("captions") or []
    negatives = row.get("negatives") or [[]] * len(captions)
    short = row.get("short") or [0] * len(captions)
    return tuple(
        Caption(
            caption["text"],
            caption["lang"] or "",
            tuple((negative["text"], negative["similarity"]) for negative in of_caption),
            missing,
        )
        for caption, of_caption, missing in zip(captions, negatives, short, strict=False)
    )


def regions_of(row: Mapping[str, Any]) -> tuple[Region, ...]:
    """The regions of a row of regions or shards. `names of classes` and `names of attributes`: the vocabularies.

    With `tags` in the row too, each region knows whether it gave one.
    """
    boxes = np.frombuffer(row["boxes"], "<f4").reshape(-1, 4).tolist()
    columns = [np.frombuffer(row[name], "<u2" if "ids" in name else "<f4").tolist() for name in REGIONS[2:]]
    classes, attributes = row.get("names of classes", []), row.get("names of attributes", [])
    tagged = {tag["region"] for tag in row["tags"]} if row.get("tags") is not None else set(range(len(boxes)))
    return tuple(
        Region(tuple(box), _name(classes, class_id), score, _name(attributes, attribute_id), sure, i in tagged)
        for i, (box, class_id, score, attribute_id, sure) in enumerate(zip(boxes, *columns, strict=True))
    )


def _name(names: list[str], number: int) -> str:
    return names[number] if number < len(names) else f"#{number}"
