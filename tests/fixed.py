"""A small dataset of fixed inputs, taken through the stages that need no detector, and a fingerprint of each table.

tests/fixed.json holds the fingerprints as the code made them when the tables last changed on purpose: `extra` is a
list, captions have kinds, and negatives are chosen against the image. What the machine's arithmetic decides is rounded.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from formats.lists import Part
from pairloom.extra import as_extra
from pairloom.store.folder import open_folder
from pipeline.config import RunConfig
from pipeline.executor import Options, run_stage
from pipeline.listing import write_list
from pipeline.stage import load
from schemas.pairs import PAIRS
from schemas.regions import REGIONS
from schemas.urls import URLS
from tests.building import numbered, write_table
from tests.pipeline.helpers import ListConfig

WORDS = ("a", "small", "red", "green", "dog", "cup", "bus", "tree", "on", "under", "old", "boat", "clock", "two")
CLASSES, ATTRIBUTES = ("dog", "cup", "bus", "tree"), ("red", "green", "old")
IMAGES, PER_SHARD, WIDTH = 30, 10, 4
STAGES: dict[str, dict[str, Any]] = {
    "curate": {"profile": "none"},
    "tags": {},
    "negatives": {"top_k": 5},
    "similar": {"top_k": 3, "floor": 0.4},
    "shards": {"seed": 1, "val_share": 0.3, "shard_bytes": 12_000, "similar": True},
}
METADATA = {
    "detector": "by-hand", "checkpoint": "0" * 64, "selection": "by-hand", "precision": "fp32", "order": "score",
    "feature_width": str(WIDTH), "feature_dtype": "<f2", "prob_width": "2", "grid_side": "0", "grid_dtype": "<f2",
    "classes": json.dumps(CLASSES), "attributes": json.dumps(ATTRIBUTES),
}  # fmt: skip


def numbers(image: int, count: int, below: int) -> list[int]:
    """Numbers that no library's generator decides."""
    digest = hashlib.sha256(f"{image}/{count}/{below}".encode()).digest() * (count // 32 + 1)
    return [byte % below for byte in digest[:count]]


def captions(image: int) -> list[str]:
    drawn = numbers(image, 14, len(WORDS))
    return [" ".join(WORDS[word] for word in drawn[start : start + 7]) for start in (0, 7)[: 1 + image % 2]]


def pair(image: int) -> dict[str, Any]:
    content = hashlib.sha256(str(image).encode()).digest() * 8  # no stage here decodes it
    return {
        "image_id": hashlib.sha256(content).digest()[:16], "image": content, "format": "jpeg", "width": 400 + image,
        "height": 300, "original_width": 400 + image, "original_height": 300, "url": f"http://host/{image}",
        "sha256": hashlib.sha256(content).digest(), "phash": int.from_bytes(content[:8], "big"), "licence": "CC0-1.0",
        "source": "fixed", "extra": as_extra({"kind": "fixed"}),
        "captions": [{"text": text, "original": text, "lang": "en"} for text in captions(image)],
    }  # fmt: skip


def regions(image: int) -> dict[str, Any]:
    count = 2 + image % 4
    corners = np.array(numbers(image, 2 * count, 200), float).reshape(count, 2)
    scores = np.linspace(0.9, 0.3, count).astype("<f4")
    return {
        "image_id": pair(image)["image_id"], "source": "fixed", "width": 400 + image, "height": 300,
        "num_regions": count, "boxes": np.hstack([corners, corners + 50]),
        "class_ids": np.array(numbers(image, count, len(CLASSES))), "class_scores": scores,
        "attribute_ids": np.array(numbers(image + 500, count, len(ATTRIBUTES))), "attribute_scores": scores,
        "features": np.array(numbers(image, WIDTH * count, 100), float).reshape(count, WIDTH) / 64,
        "prob_ids": np.tile([0, 1], (count, 1)), "prob_values": np.tile([0.5, 0.25], (count, 1)),
    }  # fmt: skip


def build(data: Path) -> dict[str, dict[str, str]]:
    """Make the dataset. Stage -> the fingerprint of each of its files' bytes, and of its content."""
    listed = URLS.table(
        url=[pair(image)["url"] for image in range(IMAGES)],
        captions=[[{"text": text, "lang": "en"} for text in captions(image)] for image in range(IMAGES)],
        extra=[[("kind", "fixed")]] * IMAGES,
    )
    write_list([Part(listed)], ListConfig(rows_per_shard=PER_SHARD), data, redo=False)
    _write(data, "download", PAIRS, [pair(image) for image in range(IMAGES)], None)
    found = {}
    for name, settings in STAGES.items():
        if name == "tags":
            _write(data, "regions", REGIONS, [regions(image) for image in range(IMAGES)], METADATA)
        config = load(name).config_type(**settings)
        run_stage(name, config, data, Options(RunConfig(cluster="inline"), plain=True))
    for name in ("urls", "download", "regions", *STAGES):
        folder = open_folder(data / name)
        files = hashlib.sha256("".join(entry.sha256 for entry in folder.shards).encode()).hexdigest()
        content = [_plain(table.to_pylist()) for _, table in folder.tables()]
        names = [entry.name for entry in folder.shards]
        text = json.dumps([names, content], sort_keys=True)
        found[name] = {"files": files, "content": hashlib.sha256(text.encode()).hexdigest()}
    return found


def _write(data: Path, stage: str, schema: Any, rows: list[dict[str, Any]], metadata: dict[str, str] | None) -> None:
    tables = []
    for number in range(0, IMAGES, PER_SHARD):
        part = rows[number : number + PER_SHARD]
        tables.append(schema.table(metadata=metadata, **{name: [row[name] for row in part] for name in part[0]}))
    write_table(data / stage, schema, numbered(tables), stage)


def _plain(value: Any) -> Any:
    """As JSON takes it. Floats to four digits, which another processor's last bit does not change."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def versions() -> dict[str, str]:
    """Of the libraries that decide the files' bytes."""
    return {"pyarrow": pa.__version__, "numpy": np.__version__}
