"""Units `patches`: fixed crops of the image, of equal cells or of a pyramid, as the stage `patches` stored them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pairloom.errors import ConfigError
from pairloom.loader.batch import Regions
from pairloom.loader.row import Row
from pairloom.table import Array
from pairloom.typed import Positive, check_ranges
from systems.units.regions import seven

SIZE = ("width", "height")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Which crops. count: how many the model has places for, which must be how many were stored."""

    of: Literal["patch", "pyramid"]
    count: Positive

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(slots=True)
class Pyramid(Regions):
    """With what corruptions show instead of the features of some crops."""

    turned_3D: Array | None = None  # the first, turned by 90, 180 and 270 degrees
    grey_16D: Array | None = None  # those of the fourth level, without colour


def columns(settings: Settings) -> tuple[str, ...]:
    more = ("pyramid_turned", "pyramid_grey") if settings.of == "pyramid" else ()
    return (*SIZE, f"{settings.of}_boxes", f"{settings.of}_features", *more)


def shapes(settings: Settings, metadata: Mapping[str, str]) -> dict[str, int]:
    """Raises ConfigError if another number of crops was stored."""
    stored = metadata[f"{settings.of}_count"]
    if stored != str(settings.count):
        raise ConfigError(
            f"the recipe wants {settings.count} crops an image, the shards have {stored}",
            where=f"units.patches, of: {settings.of}",
            fix="set patches.grid in params.yaml to their square root and run the stages patches and shards",
        )
    return {"feature_width": int(metadata["patch_width"])}


def length(row: Row, settings: Settings) -> int:
    """Crops of the image, for batches of so many tokens."""
    return settings.count


def most(settings: Settings) -> int:
    return settings.count


def load(row: Row, settings: Settings, rng: np.random.Generator | None) -> Regions:
    """All crops of the row's image, nothing corrupted yet. Nothing is augmented."""
    boxes_R4 = row.numbers(f"{settings.of}_boxes")
    crops = {
        "features_RD": row.numbers(f"{settings.of}_features"),
        "boxes_R7": seven(boxes_R4, row.value("width"), row.value("height")),
        "masked_R": np.zeros(len(boxes_R4), bool),
    }
    if settings.of == "patch":
        return Regions(**crops)
    return Pyramid(**crops, turned_3D=row.numbers("pyramid_turned"), grey_16D=row.numbers("pyramid_grey"))
