"""Suppression that stops early keeps what suppression of all boxes keeps first."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stages.regions import catalogue
from stages.regions.published.boxes import suppress
from stages.regions.published.settings import FasterRCNN, Suppression
from tests.devices import DEVICES
from tests.stages.regions.published.oracle import suppressed


@given(seed=st.integers(0, 1000), count=st.integers(1, 60), most=st.integers(1, 12), spread=st.sampled_from([2, 40]))
def test_the_first_that_are_kept_are_those_of_all_boxes(seed: int, count: int, most: int, spread: int) -> None:
    """With little spread, one of the first boxes covers most others, so that the first 8 × most are not enough."""
    random = np.random.default_rng(seed)
    corners = random.integers(0, spread, (count, 2))
    boxes = np.concatenate([corners, corners + random.integers(8, 12, (count, 2))], axis=1).astype(np.float32)
    wanted = [tuple(box) for _, box in suppressed([(float(-rank), box) for rank, box in enumerate(boxes)], 0.7, 1)]
    for device in DEVICES:
        kept = suppress(torch.from_numpy(boxes).to(device), Suppression(iou=0.7, plus_one=True), most).cpu()
        assert kept.tolist() == sorted(kept.tolist())
        assert [tuple(box) for box in boxes[kept.numpy()]] == wanted[:most]


@pytest.mark.parametrize(("ties", "kept"), [(">=", [0]), (">", [0, 1])])
def test_an_overlap_of_exactly_the_threshold(ties: Literal[">", ">="], kept: list[int]) -> None:
    """Two pixels of four: a half, which no arithmetic rounds."""
    boxes = torch.tensor([[0.0, 0, 1, 1], [0, 0, 1, 0]])
    assert suppress(boxes, Suppression(iou=0.5, plus_one=True, ties=ties), 2).tolist() == kept


def test_ties_are_suppressed_where_the_cpu_made_the_published_features() -> None:
    entries = {name: catalogue.load(name) for name in catalogue.names()}
    ties = {name: each.proposals.nms.ties for name, each in entries.items() if isinstance(each, FasterRCNN)}
    assert [name for name, each in ties.items() if each == ">="] == ["butd-r101", "milvlg-r101", "milvlg-r152"]
