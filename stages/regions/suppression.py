"""Overlap of boxes and greedy non-maximum suppression, for all classes at once.

Letters: N proposals, C object classes, E (proposal, class) pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from pairloom.compiled import compiled

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Overlaps:
    """Which boxes overlap by more than an IoU: of a few pairs asked for one by one, of many all pairs at once."""

    boxes_N4: Array  # float64
    threshold: float
    box_pixel: float

    @classmethod
    def of(cls, boxes_N4: Array, threshold: float, box_pixel: float = 0.0) -> Overlaps:
        return cls(boxes_N4.astype(np.float64), float(threshold), float(box_pixel))

    @cached_property
    def all_NN(self) -> Array:  # noqa: N802  # an array is named with its shape
        """Which pairs overlap (N, N)."""
        found: Array = _overlaps(self.boxes_N4, self.threshold, self.box_pixel)
        return found


def survivors(overlaps: Overlaps, scores_N: Array) -> Array:
    """Which regions greedy NMS keeps (N,): best first, of equal scores the first, each if no kept one overlaps it."""
    order = np.argsort(-scores_N, kind="stable")
    alone = np.array([0, len(order)])
    kept_N = np.zeros(len(order), bool)
    kept_N[order] = _kept(overlaps.boxes_N4[order], alone, overlaps.threshold, overlaps.box_pixel)
    return kept_N


def survivors_by_class(overlaps: Overlaps, classes_E: Array) -> Array:
    """Which pairs, best first, greedy NMS keeps in their class (E,). The boxes are those of the pairs."""
    order = np.argsort(classes_E, kind="stable")
    kept_E = np.zeros(len(order), bool)
    kept_E[order] = _kept(overlaps.boxes_N4[order], _edges(classes_E[order]), overlaps.threshold, overlaps.box_pixel)
    return kept_E


def best_by_class(overlaps: Overlaps, scores_NC: Array, floor: float) -> tuple[Array, Array]:
    """(N,) the best score ≥ floor that greedy NMS keeps in its class, and that class. 0 and 0 where there is none.

    Of equal scores the first proposal is the better one, and the first class counts.
    """
    rows_E, classes_E = np.divmod(np.flatnonzero(scores_NC >= floor), scores_NC.shape[1])
    scores_E = scores_NC[rows_E, classes_E]
    order = np.lexsort((rows_E, -scores_E, classes_E))
    rows_E, classes_E, scores_E = rows_E[order], classes_E[order], scores_E[order]
    edges = _edges(classes_E)
    if np.square(np.diff(edges)).sum() > len(scores_NC) ** 2:  # some pairs of boxes would be asked for again and again
        kept_E = _kept_of_all(overlaps.all_NN, rows_E, edges)
    else:
        kept_E = _kept(overlaps.boxes_N4[rows_E], edges, overlaps.threshold, overlaps.box_pixel)
    return _best(rows_E[kept_E], classes_E[kept_E], scores_E[kept_E], len(scores_NC))


def _best(rows_E: Array, classes_E: Array, scores_E: Array, count: int) -> tuple[Array, Array]:
    """Of each of `count` rows the best of these scores, and its class; of equal ones the first."""
    best_N, class_N = np.zeros(count, scores_E.dtype), np.zeros(count, np.int64)
    order = np.lexsort((-np.arange(len(rows_E)), scores_E))  # what is written last stays
    order = order[scores_E[order] > 0]
    best_N[rows_E[order]], class_N[rows_E[order]] = scores_E[order], classes_E[order]
    return best_N, class_N


def _edges(classes_E: Array) -> Array:
    """Where each class begins among sorted ones, and the end."""
    edges: Array = np.flatnonzero(np.diff(classes_E, prepend=-1, append=-1))
    return edges if len(classes_E) else np.zeros(1, np.int64)


@compiled
def _over(boxes_N4: Array, one: int, other: int, threshold: float, box_pixel: float) -> bool:
    """As pairloom.boxes.iou, operation for operation, without its dozen arrays in between."""
    x1, y1, x2, y2 = boxes_N4[one, 0], boxes_N4[one, 1], boxes_N4[one, 2], boxes_N4[one, 3]
    u1, v1, u2, v2 = boxes_N4[other, 0], boxes_N4[other, 1], boxes_N4[other, 2], boxes_N4[other, 3]
    width = max(min(x2, u2) - max(x1, u1) + box_pixel, 0.0)
    shared = width * max(min(y2, v2) - max(y1, v1) + box_pixel, 0.0)
    area = (x2 - x1 + box_pixel) * (y2 - y1 + box_pixel)
    union = area + (u2 - u1 + box_pixel) * (v2 - v1 + box_pixel) - shared
    share = shared / union if shared > 0 and union > 0 else 0.0  # most pairs are apart: a division is dear
    return bool(union > 0 and share > threshold)


@compiled
def _kept(boxes_E4: Array, edges: Array, threshold: float, box_pixel: float) -> Array:
    """Boxes class by class, best first: each that no kept one of its class overlaps is kept."""
    kept_E = np.ones(len(boxes_E4), np.bool_)
    for group in range(len(edges) - 1):
        for here in range(edges[group], edges[group + 1]):
            if kept_E[here]:
                for other in range(here + 1, edges[group + 1]):
                    if kept_E[other] and _over(boxes_E4, here, other, threshold, box_pixel):
                        kept_E[other] = False
    return kept_E


@compiled
def _kept_of_all(over_NN: Array, rows_E: Array, edges: Array) -> Array:
    """As `_kept`, where the overlaps of all boxes are known."""
    kept_E = np.ones(len(rows_E), np.bool_)
    for group in range(len(edges) - 1):
        for here in range(edges[group], edges[group + 1]):
            if kept_E[here]:
                for other in range(here + 1, edges[group + 1]):
                    if over_NN[rows_E[here], rows_E[other]]:
                        kept_E[other] = False
    return kept_E


@compiled
def _overlaps(boxes_N4: Array, threshold: float, box_pixel: float) -> Array:
    over_NN = np.empty((len(boxes_N4), len(boxes_N4)), np.bool_)
    for i in range(len(boxes_N4)):
        for j in range(i + 1):
            over_NN[i, j] = over_NN[j, i] = _over(boxes_N4, i, j, threshold, box_pixel)
    return over_NN
