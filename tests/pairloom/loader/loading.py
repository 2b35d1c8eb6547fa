"""A small shards folder of many row groups, a recipe that reads it, and how batches are compared."""

from __future__ import annotations

import functools
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pairloom.loader import tokenizer as tokenizers
from pairloom.loader.batch import IGNORE, Batch
from pairloom.loader.tokenizer import Tokenizer
from schemas.shards import SHARDS
from systems import recipes
from tests.building import negative, training_row, training_shard, write_table
from trainer.recipe import Recipe

WIDTH = 8
WORDS = [
    "red",
    "green",
    "blue",
    "small",
    "large",
    "old",
    "new",
    "dog",
    "cup",
    "bus",
    "tree",
    "guitar",
    "apple",
    "boat",
    "clock",
]
METADATA = {
    "detector": "test", "checkpoint": "0", "feature_width": str(WIDTH), "prob_width": "2", "feature_dtype": "<f2",
    "classes": json.dumps(WORDS), "attributes": '["none"]', "answers": '["yes", "no", "red"]', "answer_count": "3",
    "similar_top_k": "2", "neighbour_top_k": "2", "neighbour_width": str(WIDTH),
}  # fmt: skip
PATCHED = {"patch_count": "64", "pyramid_count": "55", "patch_width": str(WIDTH)}


def write_folder(
    folder: Path,
    shards: Sequence[int] = (9, 8, 6),
    group_rows: int = 3,
    splits: Sequence[str] = ("train",),
    without: Sequence[str] = (),
    prob_width: int = 2,
    patched: bool = False,
) -> Path:
    """So many images in each shard, so many in a row group. Image i has 1 + i % 3 captions and 1 + i % 5 regions.

    With several splits, each has these shards; without: columns to leave out; patched: with the columns of patches.
    """
    made, start = {}, 0
    for split, number, count in ((split, number, count) for split in splits for number, count in enumerate(shards)):
        table = table_of(range(start, start + count), split, prob_width, patched)
        made[f"{split}-{number:05d}"] = table.drop_columns(list(without))
        start += count
    return write_table(folder, SHARDS, made, group_rows=group_rows, indexed=True)


def table_of(images: range, split: str, prob_width: int = 2, patched: bool = False) -> Any:
    rows = [
        _row(image, prob_width) | neighbours(image, prob_width) | (patches(image) if patched else {})
        for image in images
    ]
    notes = METADATA | {"prob_width": str(prob_width)} | (PATCHED if patched else {})
    return training_shard(rows, split, notes)


def patches(image: int) -> dict[str, Any]:
    """As the stage `patches` makes them of a picture of 64 by 48, all of it foreground."""
    rng = np.random.default_rng(1000 + image)
    pieces = np.array([cell for side in range(1, 6) for cell in cells(side)])
    counts = {"patch_features": 64, "pyramid_features": 55, "pyramid_turned": 3, "pyramid_grey": 16}
    features = {name: rng.normal(size=(count, WIDTH)) for name, count in counts.items()}
    return {"patch_boxes": np.array(cells(8)), "pyramid_boxes": pieces, **features}


def cells(side: int) -> list[tuple[float, float, float, float]]:
    x, y = 64 / side, 48 / side
    return [(i * x, j * y, (i + 1) * x, (j + 1) * y) for j in range(side) for i in range(side)]


def _row(image: int, prob_width: int) -> dict[str, Any]:
    rng = np.random.default_rng(image)
    regions, captions = 1 + image % 5, 1 + image % 3
    texts = [" ".join(rng.choice(WORDS, 6)) for _ in range(captions)]
    corner, classes = rng.uniform(0, 20, (regions, 2)), rng.integers(0, len(WORDS), regions)
    return training_row(
        image, texts, np.concatenate([corner, corner + 20], axis=1), rng.normal(size=(regions, WIDTH)),
        image=picture(image), url=f"http://sample.invalid/{image}", licence="CC0-1.0", source="test",
        class_ids=classes, class_scores=np.linspace(0.9, 0.5, regions),
        prob_ids=np.tile([0, 1], (regions, 1))[:, :prob_width],
        prob_values=np.tile([0.8, 0.1], (regions, 1))[:, :prob_width],
        negatives=[[negative(f"no {text}")] for text in texts], short=[29] * captions, qa=questions(image),
        similar=[similar(image, text) for text in texts],
    )  # fmt: skip


def similar(image: int, text: str) -> list[dict[str, Any]]:
    """None, one or two by the image's number."""
    texts = [f"{text} {added}" for added in ("and more", "again")[: image % 3]]
    return [{"image_id": bytes(16), "caption_index": 0, "text": other, "similarity": 0.8} for other in texts]


def neighbours(image: int, prob_width: int = 2) -> dict[str, Any]:
    """The images of the next numbers, none, one or two by this one's, with their first two regions."""
    others = [_row(number, prob_width) for number in range(image + 1, image + 1 + image % 3)]
    first = [(row["boxes"][:2] / [64, 48, 64, 48], row["features"][:2]) for row in others]
    listed = [
        {"image_id": row["image_id"], "similarity": 0.5, "num_regions": len(boxes)}
        for row, (boxes, _) in zip(others, first, strict=True)
    ]
    return {
        "neighbours": listed,
        "neighbour_regions": sum(len(boxes) for boxes, _ in first),
        "neighbour_boxes": np.concatenate([np.zeros((0, 4)), *(boxes for boxes, _ in first)]),
        "neighbour_features": np.concatenate([np.zeros((0, WIDTH)), *(features for _, features in first)]),
    }


def questions(image: int) -> list[dict[str, Any]]:
    """None to three: one answer, two of which one is not among those told apart, and none."""
    answers = [[("yes", 1.0)], [("red", 1.0), ("odd", 0.6), ("no", 0.3)], []]
    return [
        {
            "text": f"is {WORDS[image % len(WORDS)]} number {number} there?",
            "answers": [{"text": text, "score": score} for text, score in answers[number]],
            "source": "test",
            "question_id": f"{image}.{number}",
        }
        for number in range(image % 4)
    ]


@functools.lru_cache
def picture(image: int) -> bytes:
    stream = io.BytesIO()
    shades = np.random.default_rng(image).integers(0, 255, (6, 8, 3), np.uint8)
    Image.fromarray(shades).resize((64, 48)).save(stream, "JPEG")
    return stream.getvalue()


@functools.lru_cache
def recipe(name: str = "uniter") -> Recipe:
    small = {"text": {"vocab_size": 300}, "training": {"batch_size": 8}}
    return recipes.load(name, "tiny", small)


@functools.lru_cache
def tokenizer(name: str = "uniter") -> Tokenizer:
    return tokenizers.train([" ".join(WORDS)], recipe(name).text)


def rows_of(batch: Batch) -> list[dict[str, Any]]:
    """Each row's values without padding, so that batches of other widths can be compared."""
    found = []
    for row in range(len(batch)):
        words, regions = batch.words, batch.regions
        length = int(words.attention_mask_BT[row].sum())
        content: dict[str, Any] = {
            "image_id": batch.image_ids[row], "caption": int(batch.caption_index_B[row]),
            "match": bool(batch.match_B[row]), "objective": batch.objective,
            "ids": words.input_ids_BT[row, :length].tolist(), "labels": words.labels_BT[row, :length].tolist(),
            "real": batch.real_B is None or bool(batch.real_B[row]),
        }  # fmt: skip
        assert (words.labels_BT[row, length:] == IGNORE).all()
        if regions is not None:
            count = int(regions.mask_BR[row].sum())
            content |= {
                "features": regions.features_BRD[row, :count].numpy().tobytes(),
                "boxes": regions.boxes_BR7[row, :count].numpy().tobytes(),
                "masked": regions.masked_BR[row, :count].tolist(),
            }
            assert not regions.features_BRD[row, count:].any()  # recycled memory must not show through
        if batch.pixels_B3SS is not None:
            content["pixels"] = batch.pixels_B3SS[row].numpy().tobytes()
        found.append(content)
    return found


def keys(rows: Sequence[dict[str, Any]]) -> list[tuple[bytes, int]]:
    return [(row["image_id"], row["caption"]) for row in rows]


def all_keys(images: int) -> list[tuple[bytes, int]]:
    """Every (image, caption) of a folder with so many images."""
    return [(image.to_bytes(16, "big"), caption) for image in range(images) for caption in range(1 + image % 3)]


def with_objective(name: str, objective: str) -> Recipe:
    """The recipe with one objective only."""
    whole = recipe(name)
    return replace(whole, objectives={objective: whole.objectives[objective]})
