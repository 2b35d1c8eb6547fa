"""Which of a picture's regions are kept, and in which order: pure functions on arrays.

Letters: N regions, C object classes, K kept regions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Policy:
    """How many regions are kept: those from `min_score` on, but at least and at most so many, as BUTD clamps."""

    rule: str
    min_regions: int
    max_regions: int
    min_score: float
    nms: float  # a region that overlaps a better one by more than this IoU has confidence 0


@dataclass(frozen=True)
class Selected:
    """The kept regions, best first: their rows, their classes, and their confidences, descending."""

    rows_K: Array
    classes_K: Array
    scores_K: Array


def agnostic(boxes_N4: Array, scores_NC: Array, policy: Policy) -> Selected:
    """Each region by its best class, one NMS over all of them (VinVL's second filter)."""
    classes_N, best_N = scores_NC.argmax(axis=1), scores_NC.max(axis=1)
    kept_N = survives(boxes_N4, best_N[:, None], policy.nms)[:, 0]
    return clamp(classes_N, np.where(kept_N, best_N, 0), policy)


def butd(boxes_N4: Array, scores_NC: Array, policy: Policy) -> Selected:
    """NMS in each class, then each region by the best class in which it survived (arXiv:1707.07998).

    The published code stores argmax of all scores as the class, which need not be the class that set the
    confidence, and leaves 10 to 100 regions in the proposals' order; here the class is that one, and best is first.
    """
    alive_NC = np.where(survives(boxes_N4, scores_NC, policy.nms), scores_NC, 0)
    best_N = alive_NC.max(axis=1)
    classes_N = np.where(best_N > 0, alive_NC.argmax(axis=1), scores_NC.argmax(axis=1))
    return clamp(classes_N, best_N, policy)


RULES: dict[str, Callable[[Array, Array, Policy], Selected]] = {"agnostic": agnostic, "butd": butd}
POLICIES = {"starter": Policy("agnostic", 10, 36, 0.2, 0.5), "butd": Policy("butd", 10, 100, 0.2, 0.3)}


def select(boxes_N4: Array, scores_NC: Array, policy: Policy) -> Selected:
    """The regions that this policy keeps."""
    return RULES[policy.rule](boxes_N4, scores_NC, policy)


def clamp(classes_N: Array, confidence_N: Array, policy: Policy) -> Selected:
    """The most confident regions, equal ones in the order of the proposals."""
    count = int((confidence_N >= policy.min_score).sum())
    count = max(policy.min_regions, min(policy.max_regions, count))
    rows_K = np.argsort(-confidence_N, kind="stable")[:count]
    return Selected(rows_K, classes_N[rows_K], confidence_N[rows_K])


def survives(boxes_N4: Array, scores_NC: Array, threshold: float) -> Array:
    """Which regions greedy NMS keeps in each class (N, C): all classes at once, rank by rank.

    Of equal scores the first region goes first; a region goes when a kept one overlaps it by more than `threshold`.
    """
    overlaps_NN = iou(boxes_N4) > threshold
    order_NC = np.argsort(-scores_NC, axis=0, kind="stable")
    every_C = np.arange(scores_NC.shape[1])
    gone_NC = np.zeros(scores_NC.shape, bool)
    kept_NC = np.zeros(scores_NC.shape, bool)
    for row_C in order_NC:
        kept_C = ~gone_NC[row_C, every_C]
        kept_NC[row_C, every_C] = kept_C
        gone_NC |= overlaps_NN[row_C].T & kept_C
    return kept_NC


def iou(boxes_N4: Array) -> Array:
    """Intersection over union of all pairs (N, N), float64; 0 where both boxes are empty."""
    boxes = boxes_N4.astype(np.float64)
    low, high = np.maximum(boxes[:, None, :2], boxes[:, :2]), np.minimum(boxes[:, None, 2:], boxes[:, 2:])
    shared_NN = (high - low).clip(min=0).prod(axis=2)
    area_N = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    union_NN = area_N[:, None] + area_N - shared_NN
    ratio_NN: Array = np.divide(shared_NN, union_NN, out=np.zeros_like(shared_NN), where=union_NN > 0)
    return ratio_NN
