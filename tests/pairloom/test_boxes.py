"""Overlap of boxes, by hand and against torchvision and COCO's own code."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask
from torchvision.ops import box_iou

from pairloom.boxes import iou

boxes = st.tuples(*[st.integers(0, 20)] * 4).map(
    lambda c: [float(min(c[0], c[2])), float(min(c[1], c[3])), max(c[0], c[2]) + 1.0, max(c[1], c[3]) + 1.0]
)


@settings(deadline=None)
@given(st.lists(boxes, min_size=1, max_size=6), st.lists(boxes, min_size=1, max_size=6))
def test_overlap_is_that_of_torchvision(first: list[list[float]], second: list[list[float]]) -> None:
    expected = box_iou(torch.tensor(first), torch.tensor(second)).numpy()
    np.testing.assert_allclose(iou(np.array(first), np.array(second)), expected, rtol=1e-5)


def test_overlaps_are_those_of_coco() -> None:
    rng = np.random.default_rng(3)
    corners = rng.integers(0, 20, (12, 2))
    boxes = np.concatenate([corners, corners + rng.integers(1, 20, (12, 2))], axis=1).astype(float)
    xywh = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    assert np.allclose(iou(boxes, boxes), mask.iou(xywh, xywh, [0] * 12))


def test_iou_of_a_quarter_overlap_by_hand() -> None:
    # 2×2 and 2×2 share 1×1: 1 / (4 + 4 − 1). An empty box shares nothing, even with itself.
    boxes = np.array([[0, 0, 2, 2], [1, 1, 3, 3], [5, 5, 5, 5]], np.float32)
    assert np.allclose(iou(boxes, boxes), np.array([[1, 1 / 7, 0], [1 / 7, 1, 0], [0, 0, 0]]))
    # with the last pixel inside: 3×3 and 3×3 share 2×2, and the last box is one pixel
    assert np.allclose(iou(boxes, boxes, 1.0), np.array([[1, 4 / 14, 0], [4 / 14, 1, 0], [0, 0, 1]]))
