"""The anchors of a cell, and of all cells of a map, by the two published rules."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from stages.regions.d2 import DefaultAnchorGenerator
from stages.regions.published.settings import Anchors

Array = npt.NDArray[np.float64]


def cell_anchors(settings: Anchors, stride: int, sizes: tuple[int, ...]) -> Tensor:
    """Anchors of the first cell of a map, (A, 4) float32, x1 y1 x2 y2 in pixels, in the rule's own order."""
    if settings.rule == "caffe":
        return torch.from_numpy(_caffe(stride, sizes, settings.ratios)).float()
    generator = DefaultAnchorGenerator(sizes=[list(sizes)], aspect_ratios=[list(settings.ratios)], strides=[stride])
    anchors: Tensor = next(iter(generator.cell_anchors))
    return anchors.clone()


def _caffe(stride: int, sizes: tuple[int, ...], ratios: tuple[float, ...]) -> Array:
    """Ratio after ratio: the sides of a square cell are rounded for each ratio, then scaled (py-faster-rcnn)."""
    widths = np.round(np.sqrt(stride * stride / np.array(ratios)))
    heights = np.round(widths * np.array(ratios))
    scales = np.array(sizes) / stride
    sides_A2 = np.stack([np.outer(widths, scales).ravel(), np.outer(heights, scales).ravel()], axis=1)
    centre, reach_A2 = (stride - 1) / 2, (sides_A2 - 1) / 2
    return np.concatenate([centre - reach_A2, centre + reach_A2], axis=1)


def order(settings: Anchors) -> str:
    """The order in which the rule lists the anchors of a cell."""
    return "ratio-major" if settings.rule == "caffe" else "size-major"


def reordered(num_sizes: int, num_ratios: int, source: str, target: str) -> list[int]:
    """For each anchor in the target order, its place in the source order."""
    ratio_major = [[ratio * num_sizes + size for ratio in range(num_ratios)] for size in range(num_sizes)]
    places = {
        ("ratio-major", "size-major"): [place for row in ratio_major for place in row],
        ("size-major", "ratio-major"): [s * num_ratios + r for r in range(num_ratios) for s in range(num_sizes)],
    }
    return places.get((source, target), list(range(num_sizes * num_ratios)))


def grid(cell_A4: Tensor, height: int, width: int, stride: int, offset: float) -> Tensor:
    """The anchors of all cells of a map, row by row, those of a cell together: (height · width · A, 4)."""
    x = (torch.arange(width, device=cell_A4.device) + offset) * stride
    y = (torch.arange(height, device=cell_A4.device) + offset) * stride
    shifts_HW4 = torch.stack([x.expand(height, -1), y[:, None].expand(-1, width)] * 2, dim=2)
    return (shifts_HW4[:, :, None] + cell_A4).reshape(-1, 4)
