"""Units `regions`: a detector's best regions, their features, and where they lie."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from schemas.table import Array
from trainer.batch import Regions

if TYPE_CHECKING:
    from trainer.rows import Row

COLUMNS = ("num_regions", "boxes", "class_scores", "features", "width", "height")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How many regions are taken: those above min_score, but at least min_regions and at most max_regions."""

    max_regions: int
    min_regions: int
    min_score: float  # detector confidence, 0 to 1


def columns(settings: Settings) -> tuple[str, ...]:
    return COLUMNS


def shapes(settings: Settings, metadata: Mapping[str, str]) -> dict[str, int]:
    return {
        "feature_width": int(metadata["feature_width"]),
        "num_classes": len(json.loads(metadata["classes"])),
        "num_attributes": len(json.loads(metadata["attributes"])),
    }


def load(row: Row, settings: Settings, rng: np.random.Generator | None) -> Regions:
    """The best regions of the row's image; nothing is augmented."""
    count = length(row, settings)
    width, height = row.value("width"), row.value("height")

    def named(column: str) -> Array | None:
        return row.numbers(column)[:count] if row.has(column) else None

    return Regions(
        features_RD=row.stored("features")[:count],
        boxes_R7=seven(row.numbers("boxes")[:count], width, height),
        masked_R=np.zeros(count, bool),
        class_ids_R=named("class_ids"),
        class_scores_R=named("class_scores"),
        attribute_ids_R=named("attribute_ids"),
        attribute_scores_R=named("attribute_scores"),
        prob_ids_RK=named("prob_ids"),
        prob_values_RK=named("prob_values"),
    )


def length(row: Row, settings: Settings) -> int:
    """Regions that `load` takes, for batches of so many tokens."""
    return how_many(row.numbers("class_scores"), settings)


def how_many(scores_R: Array, settings: Settings) -> int:
    """Length of the prefix to take; scores fall, so those above the floor come first (UNITER, released code)."""
    above = int(np.count_nonzero(scores_R > settings.min_score))
    return min(len(scores_R), settings.max_regions, max(above, settings.min_regions))


def seven(boxes_R4: Array, width: int, height: int) -> Array:
    """x1/W y1/H x2/W y2/H w/W h/H and the share of the area (UNITER, section 3.1): (R, 7) float32, 0 to 1."""
    seven_R7 = np.empty((len(boxes_R4), 7), np.float32)
    np.divide(boxes_R4, np.array([width, height, width, height], np.float32), out=seven_R7[:, :4])
    np.subtract(seven_R7[:, 2:4], seven_R7[:, :2], out=seven_R7[:, 4:6])
    np.multiply(seven_R7[:, 4], seven_R7[:, 5], out=seven_R7[:, 6])
    return seven_R7
