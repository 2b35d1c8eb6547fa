"""What goes out of a training shard besides vectors: a picture with its captions, and what is known of both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from formats.features.record import Record
from formats.features.tables import READ, records_of
from pairloom.extra import as_dict
from pairloom.store.names import by_number

COLUMNS = (*READ, "feature_scales", "image", "format", "url", "licence", "source", "captions", "extra", "tags", "split")
ENDINGS = {"jpeg": "jpg"}  # of a format's file, where it is not the format's name


@dataclass(frozen=True)
class Caption:
    """A caption, its language and its kind (original, alt, synthetic …). None where these are unknown."""

    text: str
    lang: str | None = None
    kind: str | None = None


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A picture as stored, its captions, and its regions. Image is empty for a pair without a picture."""

    key: str
    image: bytes
    format: str
    width: int
    height: int
    captions: Sequence[Caption]
    url: str = ""
    licence: str | None = None
    source: str | None = None
    split: str = ""
    tags: Sequence[str] = ()
    extra: Mapping[str, str] = field(default_factory=dict)
    regions: Record | None = None

    @property
    def file_name(self) -> str:
        """The key with the ending of the picture's format."""
        return f"{self.key}.{ENDINGS.get(self.format, self.format)}"


def parts(path: Path, pattern: str) -> list[Path]:
    """The file itself, or those of a folder whose names are so, by number."""
    return [path] if path.is_file() else sorted(path.glob(pattern), key=lambda each: by_number(each.stem))


def vectors_of(pair: Pair, classes: Sequence[str]) -> dict[str, Any]:
    """Boxes in pixels, classes by name, scores and features of a pair's regions. What is unknown is empty."""
    found = pair.regions
    if found is None:
        none = np.zeros((0, 0), np.float32)
        return {"boxes": none, "features": none, "classes": [], "scores": []}
    ids = found.class_ids.tolist() if found.class_ids is not None and classes else []
    scores = found.class_scores.tolist() if found.class_scores is not None else []
    boxes = np.ascontiguousarray(found.boxes, np.float32)
    named = [classes[number] for number in ids]
    return {"boxes": boxes, "features": np.ascontiguousarray(found.features), "classes": named, "scores": scores}


def pairs_of(table: pa.Table, keys: Sequence[str]) -> Iterator[Pair]:
    """The rows of a training shard's columns COLUMNS, by these keys."""
    rest = table.select(
        [name for name in COLUMNS if name in table.column_names and name not in READ and name != "image"]
    )
    rows = rest.to_pylist()
    for record, image, row in zip(records_of(table, keys), table["image"], rows, strict=True):
        yield Pair(
            key=record.key,
            image=image.as_py() or b"",
            format=row["format"] or "",
            width=record.width or 0,
            height=record.height or 0,
            captions=[Caption(said["text"], said["lang"], said.get("kind")) for said in row["captions"]],
            url=row["url"],
            licence=row["licence"],
            source=row["source"],
            split=row["split"],
            tags=[tag["text"] for tag in row["tags"]],
            extra=as_dict(row["extra"]),
            regions=record if len(record.boxes) else None,  # shards may be made without (`shards.regions: false`)
        )
