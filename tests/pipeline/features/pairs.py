"""Training shards of a few made-up pictures with captions and regions, for exports of pairs."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pairloom.extra import as_extra
from schemas.shards import SHARDS
from tests.building import training_row, training_shard, write_table

CLASSES = ["dog", "cat"]
METADATA = {
    "feature_width": "4", "feature_dtype": "<f2", "prob_width": "0", "grid_side": "0", "grid_dtype": "<f2",
    "classes": json.dumps(CLASSES), "attributes": "[]", "detector": "made", "checkpoint": "", "order": "score",
}  # fmt: skip
TEXTS = ["a dog", 'a "cat"\ton a mat', "猫 und Öl"]


def picture(number: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((48, 64, 3), number * 9, np.uint8)).save(file, "PNG" if number % 3 == 2 else "JPEG")
    return file.getvalue()


def row(number: int) -> dict[str, Any]:
    boxes = np.array([[1, 2, 30, 40], [5, 6, 20, 21.5]], np.float32) + number
    own: dict[str, Any] = {"image": picture(number), "format": "png" if number % 3 == 2 else "jpeg"}
    own |= {"extra": as_extra({"key": f"val2014/COCO_{number:06d}"}), "licence": "CC0-1.0", "source": "made"}
    own |= {"class_ids": np.array([number % 2, 1]), "class_scores": np.array([0.9, 0.5]), "url": f"http://h/{number}"}
    features = np.arange(8).reshape(2, 4) + number
    return training_row(number, TEXTS[: 1 + number % 3], boxes, features, **own)


def write(folder: Path) -> Path:
    """Nine pairs in two shards of train, two in one of val."""
    parts = {
        "train-00000": (range(4), "train"),
        "train-00001": (range(4, 9), "train"),
        "val-00000": (range(9, 11), "val"),
    }
    tables = {
        name: training_shard([row(number) for number in numbers], split, METADATA)
        for name, (numbers, split) in parts.items()
    }
    return write_table(folder, SHARDS, tables, indexed=True)


def same_picture(found: Image.Image, number: int) -> bool:
    wanted = Image.open(io.BytesIO(picture(number))).convert("RGB")
    return np.array_equal(np.asarray(found.convert("RGB")), np.asarray(wanted))
