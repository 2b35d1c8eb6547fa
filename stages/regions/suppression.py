"""Overlap of boxes and greedy non-maximum suppression, for all pairs and all classes at once.

Letters: N proposals, C object classes, R classes in play.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from stages.compiled import compiled

Array = npt.NDArray[Any]


def survivors(over_NN: Array, scores_N: Array) -> Array:
    """Which regions greedy NMS keeps (N,): best first, of equal scores the first, each if no kept one overlaps it."""
    kept_N, gone_N = np.zeros(len(scores_N), bool), np.zeros(len(scores_N), bool)
    for row in np.argsort(-scores_N, kind="stable"):
        if not gone_N[row]:
            kept_N[row] = True
            gone_N |= over_NN[row]
    return kept_N


def survivors_by_class(over_NN: Array, scores_NC: Array, floor: float) -> tuple[Array, Array]:
    """(N, R) scores ≥ floor that greedy NMS keeps in their class, else 0, and the R classes in play, ascending."""
    classes_R = np.flatnonzero(scores_NC.max(axis=0) >= floor)
    alive_RN = _alive(over_NN, np.ascontiguousarray(scores_NC[:, classes_R].T), floor)
    return alive_RN.T, classes_R


@compiled
def _alive(over_NN: Array, scores_RN: Array, floor: float) -> Array:
    alive_RN, gone_N = np.zeros_like(scores_RN), np.empty(scores_RN.shape[1], np.bool_)
    for scores_N, alive_N in zip(scores_RN, alive_RN):  # noqa: B905  numba knows no strict
        rows_K = np.flatnonzero(scores_N >= floor)
        gone_N[:] = False
        for row in rows_K[np.argsort(-scores_N[rows_K], kind="mergesort")]:  # stable: of equal scores the first
            if not gone_N[row]:
                alive_N[row] = scores_N[row]
                gone_N |= over_NN[row]
    return alive_RN


def overlaps(boxes_N4: Array, threshold: float, box_pixel: float = 0.0) -> Array:
    """Which pairs overlap by more than this IoU (N, N)."""
    return _overlaps(boxes_N4.astype(np.float64), float(threshold), float(box_pixel))


@compiled
def _overlaps(boxes_N4: Array, threshold: float, box_pixel: float) -> Array:
    """As pairloom.boxes.iou, operation for operation, without its dozen arrays in between."""
    over_NN = np.empty((len(boxes_N4), len(boxes_N4)), np.bool_)
    for i, (x1, y1, x2, y2) in enumerate(boxes_N4):
        area = (x2 - x1 + box_pixel) * (y2 - y1 + box_pixel)
        for j, (u1, v1, u2, v2) in enumerate(boxes_N4[: i + 1]):
            width = max(min(x2, u2) - max(x1, u1) + box_pixel, 0.0)
            shared = width * max(min(y2, v2) - max(y1, v1) + box_pixel, 0.0)
            union = area + (u2 - u1 + box_pixel) * (v2 - v1 + box_pixel) - shared
            over_NN[i, j] = over_NN[j, i] = union > 0 and shared / union > threshold
    return over_NN
