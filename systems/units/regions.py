"""Units `regions`: a detector's best regions, their features, and where they lie."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from pairloom.loader.batch import Regions
from pairloom.loader.examples import RegionColumns
from pairloom.loader.group import OpenGroup
from pairloom.loader.row import Row
from pairloom.table import Array
from pairloom.typed import Positive, Range, Share, check_ranges

OPTIONAL = ("class_ids_R", "class_scores_R", "attribute_ids_R", "attribute_scores_R", "prob_ids_RK", "prob_values_RK")
COLUMNS = ("num_regions", "boxes", "class_scores", "features", "width", "height")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How many regions are taken: those above min_score, but at least min_regions and at most max_regions."""

    max_regions: Positive
    min_regions: Annotated[int, Range(0)]
    min_score: Share  # detector confidence

    def __post_init__(self) -> None:
        check_ranges(self)


def columns(settings: Settings) -> tuple[str, ...]:
    return COLUMNS


def shapes(settings: Settings, metadata: Mapping[str, str]) -> dict[str, int]:
    return {
        "feature_width": int(metadata["feature_width"]),
        "num_classes": len(json.loads(metadata["classes"])),
        "num_attributes": len(json.loads(metadata["attributes"])),
    }


@dataclass(frozen=True)
class Taken:
    """The regions of all images of a row group, worked out at once. An image's are a slice of each column."""

    starts: list[int]  # of each image's regions
    counts: list[int]  # how many of them are taken
    columns: dict[str, Array]  # fields of Regions -> of all regions, read-only


def load(row: Row, settings: Settings, rng: np.random.Generator | None) -> Regions:
    """The best regions of the row's image. Nothing is augmented."""
    return load_all([row], settings).split()[0]


def load_all(rows: Sequence[Row], settings: Settings) -> RegionColumns:
    """The best regions of each row's image."""
    counts, features, parts = [], [], []
    for row in rows:
        taken, place = _taken(row.group, settings), row.row
        start, count = taken.starts[place], taken.counts[place]
        counts.append(count)
        features.append(row.group.stored("features", place, count))
        parts.append((taken.columns, slice(start, start + count)))
    columns = {name: np.concatenate([values[name][part] for values, part in parts]) for name in parts[0][0]}
    columns["masked_R"] = np.zeros(sum(counts), bool)
    return RegionColumns(counts, [*features], columns)


def length(row: Row, settings: Settings) -> int:
    """Regions that `load` takes, for batches of so many tokens."""
    return _taken(row.group, settings).counts[row.row]


def most(settings: Settings) -> int:
    return settings.max_regions


def _taken(group: OpenGroup, settings: Settings) -> Taken:
    taken: Taken = group.cached(settings, lambda: take(group, settings))
    return taken


def boxes_of(group: OpenGroup, image: int) -> Array:
    """(R, 7) all boxes of one of the group's images, read-only."""
    starts, boxes_R7 = group.cached("boxes_R7", lambda: _all_boxes(group))
    part: Array = boxes_R7[starts[image] : starts[image + 1]]
    return part


def _all_boxes(group: OpenGroup) -> tuple[list[int], Array]:
    """(start of each image's boxes and the end, (R, 7) of all images)."""
    sizes, widths, heights = (group.table[name].to_numpy().astype(int) for name in ("num_regions", "width", "height"))
    boxes_R7 = seven(group.all_numbers("boxes"), np.repeat(widths, sizes), np.repeat(heights, sizes))
    boxes_R7.setflags(write=False)
    return [0, *np.cumsum(sizes).tolist()], boxes_R7


def take(group: OpenGroup, settings: Settings) -> Taken:
    """What `load` gives of each of the group's images. Features stay in the shard."""
    starts, boxes_R7 = _all_boxes(group)
    counts = how_many(group.all_numbers("class_scores"), np.diff(starts), settings)
    optional = {field: field.rpartition("_")[0] for field in OPTIONAL}
    more = {field: group.all_numbers(column) for field, column in optional.items() if column in group.names}
    return Taken(starts, counts.tolist(), {"boxes_R7": boxes_R7, **more})


def how_many(scores_R: Array, sizes_I: Array, settings: Settings) -> Array:
    """Regions to take of each of I images, given their numbers of regions and the scores of all, image by image.

    Scores fall, so those above the floor come first (UNITER, released code).
    """
    upto = np.concatenate([[0], np.cumsum(scores_R > settings.min_score)])
    ends = np.cumsum(sizes_I)
    above_I = upto[ends] - upto[ends - sizes_I]
    counts_I: Array = np.maximum(above_I, settings.min_regions)
    return counts_I.clip(max=np.minimum(sizes_I, settings.max_regions))


def seven(boxes_R4: Array, width: int | Array, height: int | Array) -> Array:
    """x1/W y1/H x2/W y2/H w/W h/H and the share of the area (UNITER, section 3.1): (R, 7) float32, 0 to 1.

    width and height in pixels, one of all boxes or one of each (R).
    """
    seven_R7 = np.empty((len(boxes_R4), 7), np.float32)
    np.divide(boxes_R4, np.array([width, height, width, height], np.float32).T, out=seven_R7[:, :4])
    np.subtract(seven_R7[:, 2:4], seven_R7[:, :2], out=seven_R7[:, 4:6])
    np.multiply(seven_R7[:, 4], seven_R7[:, 5], out=seven_R7[:, 6])
    return seven_R7
