"""Tables by hand: any finished table from its shards, and training rows of which a test says only what it is about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pairloom.store.folder import Header
from pairloom.store.writing import ROW_GROUP_BYTES, Writer, write_index, write_shard
from pairloom.table import Table
from schemas.shards import SHARDS

Row = dict[str, Any]


def write_table(
    folder: Path,
    schema: Table,
    shards: Mapping[str, pa.Table],
    stage: str = "",
    group_rows: int | None = None,
    indexed: bool = False,
) -> Path:
    """A finished table with these shards, by name. Returns the folder.

    stage: what made it, if its name is not the table's; group_rows: about so many rows in each row group.
    """
    writer = Writer.open(folder, Header(schema.name, schema.version, stage or schema.name, 1, {}))
    writer.begin([])
    for name, table in shards.items():
        group = table.nbytes * group_rows // len(table) + 1 if group_rows else ROW_GROUP_BYTES
        entry = write_shard(folder, name, table, group)
        if indexed:
            write_index(folder, name, entry.sha256, compared=True)
        writer.record(entry)
    writer.finish()
    return folder


def numbered(shards: Sequence[pa.Table]) -> dict[str, pa.Table]:
    """Shards by the names that stages give them."""
    return {f"{number:05d}": table for number, table in enumerate(shards)}


def training_row(number: int, texts: Sequence[str], boxes: Any, features: Any, **own: Any) -> Row:
    """An image of a training shard with these captions and regions; own: what differs from the plainest row."""
    count = len(boxes)
    plain = {
        "image_id": number.to_bytes(16, "big"), "image": b"", "format": "jpeg", "width": 64, "height": 48,
        "url": "u", "sha256": bytes(32), "captions": [{"text": t, "original": t, "lang": "en"} for t in texts],
        "extra": [], "num_regions": count, "boxes": boxes, "class_ids": np.zeros(count),
        "class_scores": np.ones(count), "attribute_ids": np.zeros(count), "attribute_scores": np.ones(count),
        "features": features, "prob_ids": np.zeros((count, 0)), "prob_values": np.zeros((count, 0)), "tags": [],
        "negatives": [[]] * len(texts), "short": [0] * len(texts),
    }  # fmt: skip
    unknown = own.keys() - {column.name for column in SHARDS.columns}
    assert not unknown, f"no columns of a training shard: {sorted(unknown)}"
    return plain | own


def negative(text: str) -> Row:
    """A hard negative of an image that is nowhere."""
    return {"image_id": bytes(16), "caption_index": 0, "text": text, "similarity": 0.4}


def training_shard(rows: Sequence[Row], split: str, metadata: Mapping[str, str]) -> pa.Table:
    """Rows as a shard of a split. All have the columns of the first."""
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    return SHARDS.table(metadata=metadata, split=[split] * len(rows), **columns)
