"""How well the regions find the things of composed scenes, whose exact boxes and names are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from inspection.dataset import Dataset
from inspection.examples import REGIONS, Region, regions_of, words
from pairloom.boxes import iou

OVERLAP = 0.5  # intersection over union from which a box counts as found
VISIBLE = 0.25  # things of which less is seen count neither as missed nor as wrongly found
SCENES = 5000  # compared, at most
THRESHOLDS = (0.2, 0.5, 0.8)  # scores of the table

Box = Sequence[float]


@dataclass(frozen=True)
class Match:
    """One region of a scene: its score, and whether a thing of its name, or of any name, is where it says."""

    score: float
    right: bool
    placed: bool


@dataclass(frozen=True)
class Comparison:
    """All regions of all scenes, and the number of things that were to be found."""

    scenes: int
    things: int
    matches: list[Match]

    def at(self, threshold: float) -> dict[str, float]:
        """Precision and recall of the regions with at least this score. 0 of nothing is 0."""
        kept = [match for match in self.matches if match.score >= threshold]
        right, placed = sum(match.right for match in kept), sum(match.placed for match in kept)
        return {
            "threshold": threshold,
            "regions": len(kept),
            "precision": right / max(len(kept), 1),
            "recall": right / max(self.things, 1),
            "recall_any_name": placed / max(self.things, 1),
        }

    def curve(self) -> list[tuple[float, float]]:
        """(recall, precision) as the threshold falls."""
        points, right = [], 0
        for i, match in enumerate(sorted(self.matches, key=lambda match: -match.score), start=1):
            right += match.right
            points.append((right / max(self.things, 1), right / i))
        return points


def compare(found: Dataset, truth: Path) -> Comparison | None:
    """The regions of every scene of the truth table that has any. None without regions or truth."""
    if not truth.is_file() or not {"curate", "regions"} <= set(found.tables):
        return None
    scenes = {row["url"]: row for row in pq.read_table(truth).slice(0, SCENES).to_pylist()}
    pairs, regions = found.tables["curate"], found.tables["regions"]
    matches: list[Match] = []
    compared = things = 0
    for entry in regions.shards:
        images = {row["image_id"]: row for row in pairs.read(entry.name, ["image_id", "url", "width"]).to_pylist()}
        names = words(regions.metadata(entry.name))
        for row in regions.read(entry.name, ["image_id", *REGIONS]).to_pylist():
            image = images.get(row["image_id"], {})
            scene = scenes.get(image.get("url", ""))
            if scene is not None:
                wanted = _wanted(scene, image["width"] / scene["width"])
                compared, things = compared + 1, things + sum(seen >= VISIBLE for _, _, seen in wanted)
                matches += match(regions_of(row | names), wanted)
    return Comparison(compared, things, matches) if compared else None


def _wanted(scene: dict[str, Any], scale: float) -> list[tuple[str, Box, float]]:
    """(name, box in pixels of the stored image, visible share) of each thing."""
    return [(thing["name"], [scale * value for value in thing["box"]], thing["visible"]) for thing in scene["things"]]


def match(regions: Sequence[Region], wanted: Sequence[tuple[str, Box, float]]) -> list[Match]:
    """Give each region, best first, the free thing of its name that it overlaps most. Each thing goes once."""
    if not wanted:
        return [Match(region.score, right=False, placed=False) for region in regions]
    if not regions:
        return []
    overlap = iou(np.array([region.box for region in regions]), np.array([box for _, box, _ in wanted]))
    named = np.array([[region.name == name for name, _, _ in wanted] for region in regions])
    visible = np.array([seen >= VISIBLE for _, _, seen in wanted])
    right = _assign(np.where(named, overlap, 0))
    placed = _assign(overlap)
    found = []
    for i, region in enumerate(regions):
        if right[i] >= 0 and not visible[right[i]]:
            continue  # it found a thing that is hardly seen
        in_place = placed[i] >= 0 and bool(visible[placed[i]])
        found.append(Match(region.score, right=right[i] >= 0, placed=in_place))
    return found


def _assign(overlap: npt.NDArray[np.float64]) -> list[int]:
    """For each row in order the free column of the highest overlap, -1 where none reaches OVERLAP."""
    free = overlap.copy()
    columns = []
    for row in free:
        best = int(row.argmax())
        columns.append(best if row[best] >= OVERLAP else -1)
        if row[best] >= OVERLAP:
            free[:, best] = 0
    return columns
