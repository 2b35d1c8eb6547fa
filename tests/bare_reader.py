"""A reader of training shards that knows nothing of pairloom, written from docs/reference/shards.md alone."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq


def rows(folder: Path, split: str) -> Iterator[dict[str, Any]]:
    """Every image of a split with its captions and its regions as arrays."""
    for path in sorted(folder.glob(f"{split}-*.parquet")):
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            metadata = {key.decode(): value.decode() for key, value in file.schema_arrow.metadata.items()}
            for group in range(file.num_row_groups):
                for row in file.read_row_group(group).to_pylist():
                    yield unpacked(row, metadata)


def unpacked(row: dict[str, Any], metadata: dict[str, str]) -> dict[str, Any]:
    count = row["num_regions"]
    names = json.loads(metadata["classes"])
    features = np.frombuffer(row["features"], metadata.get("feature_dtype", "<f2"))
    features = features.reshape(count, int(metadata["feature_width"]))
    if row.get("feature_scales") is not None:
        features = features * np.frombuffer(row["feature_scales"], "<f4")[:, None]
    return {
        "image_id": row["image_id"],
        "captions": [caption["text"] for caption in row["captions"]],
        "boxes": np.frombuffer(row["boxes"], "<f4").reshape(count, 4),
        "classes": [names[number] for number in np.frombuffer(row["class_ids"], "<u2")],
        "features": features,
    }
