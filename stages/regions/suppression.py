"""Overlap of boxes and greedy non-maximum suppression, for all pairs and all classes at once.

Letters: N proposals, C object classes, R classes in play, W bytes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

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
    """(N, R) scores ≥ floor that greedy NMS keeps in their class, else 0, and the R classes in play, ascending.

    All classes at once, rank by rank: the r-th best region of each class is kept unless a kept one covers it. Which
    regions are covered is a row of bits a class.
    """
    classes_R = np.flatnonzero(scores_NC.max(axis=0) >= floor)
    scores_RN = np.ascontiguousarray(scores_NC[:, classes_R].T)
    count_R = (scores_RN >= floor).sum(axis=1)
    by_count = np.argsort(-count_R, kind="stable")  # so that the classes that still have a region are a prefix
    scores_RN, count_R = scores_RN[by_count], count_R[by_count]
    order_RN = np.argsort(-scores_RN, axis=1, kind="stable")[:, : count_R.max(initial=0)]
    bits_NW = np.packbits(over_NN, axis=1, bitorder="little")
    covered_RW = np.zeros((len(classes_R), bits_NW.shape[1]), np.uint8)
    alive_RN = np.zeros_like(scores_RN)
    every = np.arange(len(classes_R))
    for rank, length in enumerate((count_R[:, None] > np.arange(order_RN.shape[1])).sum(axis=0)):
        row = order_RN[:length, rank]
        free = (covered_RW[every[:length], row >> 3] >> (row & 7).astype(np.uint8)) & 1 == 0
        kept, row = every[:length][free], row[free]
        alive_RN[kept, row] = scores_RN[kept, row]
        covered_RW[kept] |= bits_NW[row]
    alive_NR = np.empty((len(scores_NC), len(classes_R)), scores_NC.dtype)
    alive_NR[:, by_count] = alive_RN.T
    return alive_NR, classes_R


def overlaps(boxes_N4: Array, threshold: float, box_pixel: float = 0.0) -> Array:
    """Which pairs overlap by more than this IoU (N, N)."""
    return iou(boxes_N4, box_pixel) > threshold


def iou(boxes_N4: Array, box_pixel: float = 0.0) -> Array:
    """Intersection over union of all pairs (N, N), float64; 0 where both boxes are empty."""
    return paired_iou(boxes_N4[:, None], boxes_N4[None], box_pixel)


def paired_iou(some: Array, others: Array, box_pixel: float = 0.0) -> Array:
    """Intersection over union of boxes (…, 4) with boxes (…, 4), float64."""
    x1, y1, x2, y2 = np.moveaxis(some.astype(np.float64), -1, 0)
    u1, v1, u2, v2 = np.moveaxis(others.astype(np.float64), -1, 0)
    width = (np.minimum(x2, u2) - np.maximum(x1, u1) + box_pixel).clip(min=0)
    shared = width * (np.minimum(y2, v2) - np.maximum(y1, v1) + box_pixel).clip(min=0)
    area = (x2 - x1 + box_pixel) * (y2 - y1 + box_pixel)
    union = area + (u2 - u1 + box_pixel) * (v2 - v1 + box_pixel) - shared
    ratio: Array = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return ratio
