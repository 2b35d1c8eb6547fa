"""Overlap of boxes and greedy non-maximum suppression, for all pairs and all classes at once.

Letters: N proposals, C object classes, E (proposal, class) pairs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pairloom.compiled import compiled

Array = npt.NDArray[Any]


def survivors(over_NN: Array, scores_N: Array) -> Array:
    """Which regions greedy NMS keeps (N,): best first, of equal scores the first, each if no kept one overlaps it."""
    kept_N, gone_N = np.zeros(len(scores_N), bool), np.zeros(len(scores_N), bool)
    for row in np.argsort(-scores_N, kind="stable"):
        if not gone_N[row]:
            kept_N[row] = True
            gone_N |= over_NN[row]
    return kept_N


def best_by_class(over_NN: Array, scores_NC: Array, floor: float) -> tuple[Array, Array]:
    """(N,) the best score ≥ floor that greedy NMS keeps in its class, and that class; 0 and 0 where there is none.

    Of equal scores the first proposal is the better one, and the first class counts.
    """
    rows_E, classes_E = np.divmod(np.flatnonzero(scores_NC >= floor), scores_NC.shape[1])
    scores_E = scores_NC[rows_E, classes_E]
    order = np.lexsort((rows_E, -scores_E, classes_E))
    found: tuple[Array, Array] = _best(over_NN, rows_E[order], classes_E[order], scores_E[order])
    return found


@compiled
def _best(over_NN: Array, rows_E: Array, classes_E: Array, scores_E: Array) -> tuple[Array, Array]:
    """Pairs class by class, best first: each that no kept one of its class overlaps is kept."""
    best_N, class_N = np.zeros(len(over_NN), scores_E.dtype), np.zeros(len(over_NN), np.int64)
    gone_E = np.zeros(len(rows_E), np.bool_)
    for here, row in enumerate(rows_E):
        if gone_E[here]:
            continue
        if scores_E[here] > best_N[row]:
            best_N[row], class_N[row] = scores_E[here], classes_E[here]
        for other in range(here + 1, len(rows_E)):
            if classes_E[other] != classes_E[here]:
                break
            gone_E[other] |= over_NN[row, rows_E[other]]
    return best_N, class_N


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
            share = shared / union if shared > 0 and union > 0 else 0.0  # most pairs are apart: a division is dear
            over_NN[i, j] = over_NN[j, i] = union > 0 and share > threshold
    return over_NN
