"""Made-up rows for benchmarks.step_profile: small ones, and others of the sizes that the papers have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.formats import picture
from schemas.shards import SHARDS
from tests.building import negative, training_shard, write_table
from tests.evaluation import scenes
from tests.pairloom.loader.loading import PATCHED, cells
from tests.systems.test_overfitting import row

GROUP = 100  # rows of a shard
REGIONS, WIDTH = 37, 2048  # of an image on average, in the features that UNITER published for COCO
SIDES = (640, 480)  # pixels, as COCO's pictures
LIKE = 4  # texts and images that are like a row's
PLACE = "on the green grass beside two boats"
PUBLISHED = {
    **dict.fromkeys(("feature_width", "patch_width", "neighbour_width"), str(WIDTH)),
    **dict.fromkeys(("similar_top_k", "neighbour_top_k"), str(LIKE)),
}


def small(folder: Path, rows: int = 600) -> Path:
    """Scenes of 64 pixels as PNG with three regions, eight numbers a region, and with crops of such features."""
    return _written(folder, rows, row, {})


def published(folder: Path, rows: int = 100) -> Path:
    """JPEGs of 640 × 480 pixels and about 85 KB, 37 regions and all crops of 2,048 numbers, captions of 11 words."""
    return _written(folder, rows, published_row, PUBLISHED)


def _written(folder: Path, rows: int, make: Callable[[int], dict[str, Any]], notes: dict[str, str]) -> Path:
    made = {
        f"train-{at // GROUP:05d}": training_shard(
            [make(number) for number in range(at, min(at + GROUP, rows))], "train", scenes.METADATA | PATCHED | notes
        )
        for at in range(0, rows, GROUP)
    }
    return write_table(folder / "shards", SHARDS, made, indexed=True)


def published_row(number: int) -> dict[str, Any]:
    """The scene's texts, tags and questions beside a picture, regions and crops that show nothing."""
    rng, own = np.random.default_rng(number), row(number)
    corners = rng.uniform(0, 400, (REGIONS, 2))
    kinds = rng.integers(0, len(scenes.THINGS), REGIONS)
    texts = [f"{caption['text']} {PLACE}" for caption in own["captions"]]
    crops = {name: len(own[name]) for name in own if name.startswith(("patch_", "pyramid_")) and "boxes" not in name}
    return own | {
        "image": picture(rng), "width": SIDES[0], "height": SIDES[1], "num_regions": REGIONS,
        "boxes": np.concatenate([corners, corners + 60], axis=1),
        "features": rng.standard_exponential((REGIONS, WIDTH), np.float32),
        "class_ids": kinds, "class_scores": np.linspace(0.9, 0.3, REGIONS),
        "attribute_ids": rng.integers(1, len(scenes.COLOURS), REGIONS),
        "attribute_scores": np.linspace(0.9, 0.3, REGIONS),
        "prob_ids": np.stack([kinds, (kinds + 1) % len(scenes.THINGS)], axis=1),
        "prob_values": np.tile([0.9, 0.05], (REGIONS, 1)),
        "captions": [caption | {"text": text} for caption, text in zip(own["captions"], texts, strict=True)],
        "negatives": [[negative(f"no {text}")] for text in texts],
        "patch_boxes": _cells(8), "pyramid_boxes": np.concatenate([_cells(side) for side in range(1, 6)]),
        **{name: rng.standard_exponential((count, WIDTH), np.float32) for name, count in crops.items()},
        "similar": [[negative(f"{text} number {n}") for n in range(LIKE)] for text in texts], **neighbours(rng),
    }  # fmt: skip


def neighbours(rng: np.random.Generator) -> dict[str, Any]:
    """Images that are like the row's, with all their regions."""
    corners = rng.uniform(0, 0.8, (LIKE * REGIONS, 2))
    return {
        "neighbours": [{"image_id": bytes(16), "similarity": 0.5, "num_regions": REGIONS}] * LIKE,
        "neighbour_regions": LIKE * REGIONS,
        "neighbour_boxes": np.concatenate([corners, corners + 0.2], axis=1),
        "neighbour_features": rng.standard_exponential((LIKE * REGIONS, WIDTH), np.float32),
    }


def _cells(side: int) -> Any:
    """(n, 4) pixels, of a picture of SIDES."""
    return np.array(cells(side)) * SIDES[0] / 64
