"""Overlap of boxes (x1 y1 x2 y2): one arithmetic for selecting regions, comparing detectors and reports."""

from __future__ import annotations

import numpy as np

from pairloom.table import Array


def iou(some_N4: Array, others_M4: Array, box_pixel: float = 0.0) -> Array:
    """Intersection over union of each box with each other (N, M), float64. 0 where both boxes are empty.

    box_pixel: 1.0 for code that counts the last pixel as part of a box (x2 − x1 + 1), else 0.
    """
    return paired_iou(some_N4[:, None], others_M4[None], box_pixel)


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
