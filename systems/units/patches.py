"""Units `patches`: fixed crops of the image, of equal cells or of a pyramid, as the stage `patches` stored them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pairloom.errors import ConfigError
from pairloom.loader.batch import Regions
from pairloom.loader.examples import RegionColumns
from pairloom.loader.group import OpenGroup
from pairloom.loader.row import Row
from pairloom.table import Array
from pairloom.typed import Positive, check_ranges
from systems.units.regions import seven

SIZE = ("width", "height")
# Of a pyramid: the first crop turned by 90, 180 and 270 degrees, and those of the fourth level without colour.
VARIANTS = ("turned", "grey")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Which crops. count: how many the model has places for, which must be how many were stored."""

    of: Literal["patch", "pyramid"]
    count: Positive

    def __post_init__(self) -> None:
        check_ranges(self)


def columns(settings: Settings) -> tuple[str, ...]:
    variants = (f"pyramid_{name}" for name in VARIANTS) if settings.of == "pyramid" else ()
    return (*SIZE, f"{settings.of}_boxes", f"{settings.of}_features", *variants)


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
    return load_all([row], settings).split()[0]


def load_all(rows: Sequence[Row], settings: Settings) -> RegionColumns:
    """All crops of each row's image."""
    boxes = [_boxes(row.group, settings)[row.row] for row in rows]
    columns = {"boxes_R7": np.concatenate(boxes), "masked_R": np.zeros(sum(map(len, boxes)), bool)}
    features = [row.numbers(f"{settings.of}_features") for row in rows]
    names = VARIANTS if settings.of == "pyramid" else ()
    variants = [{name: row.numbers(f"pyramid_{name}") for name in names} for row in rows]
    return RegionColumns([len(one) for one in boxes], [*features], columns, variants)


def _boxes(group: OpenGroup, settings: Settings) -> Array:
    """(I, R, 7) of all images of a row group."""

    def boxes() -> Array:
        widths, heights = (group.table[name].to_numpy().astype(int) for name in SIZE)
        boxes_R4, images = group.all_numbers(f"{settings.of}_boxes"), len(widths)
        count = len(boxes_R4) // images
        return seven(boxes_R4, np.repeat(widths, count), np.repeat(heights, count)).reshape(images, count, 7)

    found: Array = group.cached((settings, "boxes"), boxes)
    return found
