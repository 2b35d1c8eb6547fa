"""What is stored of a picture's regions: selection applied to a network's answer, and the table's columns.

Letters: N proposals, K kept regions, C classes, D feature width, G cells a side of the grid, P stored probabilities.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pairloom.errors import ConfigError
from stages.regions.contract import Detections, Network
from stages.regions.ranking import most_probable
from stages.regions.select import Policy, select

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Storage:
    """How much of each region is kept."""

    prob_width: int  # most probable classes, 0 for none
    feature_dtype: str = "<f2"  # or <f4
    proposals: bool = False
    grid_side: int = 0  # 0: no grid features


@dataclass(frozen=True)
class StoredRegions:
    """One picture's regions, best first. Shapes and units as in schemas/regions.py."""

    size: tuple[int, int]  # (height, width) of the stored picture
    boxes: Array  # (K, 4)
    class_ids: Array  # (K,)
    class_scores: Array  # (K,)
    attribute_ids: Array  # (K,)
    attribute_scores: Array  # (K,)
    features: Array  # (K, D)
    prob_ids: Array  # (K, P)
    prob_values: Array  # (K, P)
    prob_background: Array | None  # (K,)
    proposals: Array | None  # (K, 4)
    grid: Array | None  # (G·G, D)


FLOATS = (
    "boxes",
    "class_scores",
    "attribute_scores",
    "features",
    "prob_values",
    "prob_background",
    "proposals",
    "grid",
)


def regions_of(
    found: Detections, size: tuple[int, int], network: Network, policy: Policy, storage: Storage
) -> StoredRegions:
    """The regions that the policy keeps, with boxes in pixels of the stored picture of this size (height, width)."""
    scale = np.array(network.scale(size, found.size) * 2, np.float32)
    boxes = on_host(found.boxes)
    kept = select(boxes * scale if policy.stored_pixels else boxes, on_host(found.scores_NC), policy)
    rows, classes = torch.from_numpy(kept.rows_K), torch.from_numpy(kept.classes_K)
    rows, classes = rows.to(found.boxes.device), classes.to(found.boxes.device)
    own = found.boxes[rows] if found.boxes.ndim == 2 else found.boxes[rows, classes]
    attribute_ids, attribute_scores = best_attribute(found.attributes(rows, classes))
    probs_KC = found.probs_NC[rows]
    prob_values, prob_ids = most_probable(probs_KC, min(storage.prob_width, probs_KC.shape[1]))
    background = 1 - probs_KC.sum(dim=1)
    return StoredRegions(
        size=size,
        boxes=in_picture(on_host(own) * scale, size),
        class_ids=kept.classes_K,
        class_scores=kept.scores_K,
        attribute_ids=on_host(attribute_ids),
        attribute_scores=on_host(attribute_scores),
        features=on_host(found.features_ND[rows]),
        prob_ids=prob_ids,
        prob_values=prob_values,
        prob_background=on_host(background.clamp(min=0)) if storage.prob_width else None,
        proposals=in_picture(on_host(found.proposals_N4[rows]) * scale, size) if storage.proposals else None,
        grid=grid_features(found, storage.grid_side) if storage.grid_side else None,
    )


def grid_features(found: Detections, side: int) -> Array:
    if found.grid is None:
        raise ConfigError("this detector has no grid features", "regions.grid_side", "set it to 0")
    return on_host(found.grid(side))


def best_attribute(probs_KA: Tensor) -> tuple[Tensor, Tensor]:
    """(id, score) of each region's best attribute. 0 and 0 where the detector has none."""
    if not probs_KA.shape[1]:
        return probs_KA.new_zeros(len(probs_KA), dtype=torch.int64), probs_KA.new_zeros(len(probs_KA))
    scores_K, ids_K = probs_KA.max(dim=1)
    return ids_K, scores_K


def in_picture(boxes_K4: Array, size: tuple[int, int]) -> Array:
    """Boxes cut to a picture of this size (height, width)."""
    inside: Array = np.clip(boxes_K4, 0, np.array(size[::-1] * 2, np.float32))
    return inside


def on_host(tensor: Tensor) -> Array:
    array: Array = tensor.cpu().numpy()
    return array


def halved(values: Array) -> Array:
    """As float16, which torch makes in a tenth of numpy's time and to the same bits."""
    half: Array = torch.from_numpy(values).half().numpy()
    return half


def bad_value(regions: StoredRegions, feature_dtype: str = "<f2") -> str | None:
    """Which value is NaN, infinite or beyond its column, if any is."""
    for name in FLOATS:
        values = getattr(regions, name)
        if values is None:
            continue
        # A NaN is the least and the most of what it is among, so no array of bools or of sizes is needed.
        with np.errstate(invalid="ignore"):
            most = max(float(values.max(initial=0)), -float(values.min(initial=0)))
        if not math.isfinite(most):
            return f"{name} has NaN or infinity"
        dtype = feature_dtype if name in ("features", "grid") else "<f4"
        if most > float(np.finfo(dtype).max):
            return f"{name} reaches {most:g}, more than {np.dtype(dtype).name} holds"
    return None


def as_columns(kept: list[StoredRegions], feature_dtype: str = "<f2") -> Mapping[str, Any]:
    """The columns of the regions table that say what was seen. `bad_value` has found nothing in these pictures."""
    blobs = {name: [getattr(regions, name) for regions in kept] for name in ("class_ids", "attribute_ids", "prob_ids")}
    blobs |= {name: [getattr(regions, name) for regions in kept] for name in FLOATS}
    if feature_dtype == "<f2":
        blobs["features"] = [halved(features) for features in blobs["features"]]
    counts = np.array([len(regions.boxes) for regions in kept], np.uint8)
    height, width = np.array([regions.size for regions in kept], np.int32).reshape(-1, 2).T
    return {"num_regions": counts, "height": height, "width": width, **blobs}
