"""Accuracy of referring expressions (RefCOCO, RefCOCO+, RefCOCOg): whether a box overlaps the right one by half."""

from __future__ import annotations

from torch import Tensor

LEAST = 0.5  # intersection over union


def overlap(boxes_B4: Tensor, others_B4: Tensor) -> Tensor:
    """(…,) intersection over union of boxes x1 y1 x2 y2. 0 where both are empty.

    In any unit: pixels, or shares of width and height. RefCOCO's own code adds a pixel to widths and heights, which
    papers on pre-trained models no longer do.
    """
    sides = (boxes_B4[..., 2:].minimum(others_B4[..., 2:]) - boxes_B4[..., :2].maximum(others_B4[..., :2])).clamp(min=0)
    shared = sides.prod(dim=-1)
    areas = [(boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(dim=-1) for boxes in (boxes_B4, others_B4)]
    ratio: Tensor = shared / (areas[0] + areas[1] - shared).clamp(min=1e-12)
    return ratio


def accuracy(boxes_B4: Tensor, right_B4: Tensor) -> float:
    """Share of boxes whose overlap with the right one is at least half."""
    return (overlap(boxes_B4, right_B4) >= LEAST).float().mean().item()
