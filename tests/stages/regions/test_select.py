"""Selection against slow, literal readings of the published rules."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torchvision.ops import nms

from stages.regions.select import Array, Policy, agnostic, butd, iou, survives

# Few different coordinates and scores, so that equal boxes, empty boxes and ties are common.
SIDES = st.integers(0, 6)
BOXES = st.lists(st.tuples(SIDES, SIDES, SIDES, SIDES), min_size=1, max_size=12).map(
    lambda rows: np.array([(x, y, x + w, y + h) for x, y, w, h in rows], np.float32)
)
POLICIES = st.builds(
    Policy,
    rule=st.just(""),
    min_regions=st.integers(1, 4),
    max_regions=st.integers(4, 8),
    min_score=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    nms=st.sampled_from([0.0, 0.3, 0.5, 1.0]),
)


@st.composite
def detections(draw: st.DrawFn) -> tuple[Array, Array]:
    boxes = draw(BOXES)
    shape = (len(boxes), draw(st.integers(1, 4)))
    scores = draw(arrays(np.float32, shape, elements=st.sampled_from([0.0, 0.125, 0.25, 0.5, 0.75, 1.0])))
    return boxes, scores


def overlap(one: Array, other: Array) -> float:
    one, other = one.astype(np.float64), other.astype(np.float64)  # 6/20 is more than 0.3 in float32
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(width, 0) * max(height, 0)
    union = (one[2] - one[0]) * (one[3] - one[1]) + (other[2] - other[0]) * (other[3] - other[1]) - shared
    return float(shared / union) if union > 0 else 0.0


def greedy(boxes: Array, scores: Array, threshold: float) -> list[int]:
    kept: list[int] = []
    for i in sorted(range(len(boxes)), key=lambda i: (-scores[i], i)):
        if all(overlap(boxes[i], boxes[j]) <= threshold for j in kept):
            kept.append(i)
    return kept


def clamped(confidence: list[float], policy: Policy) -> list[int]:
    above = sum(value >= policy.min_score for value in confidence)
    order = sorted(range(len(confidence)), key=lambda i: (-confidence[i], i))
    return order[: min(max(above, policy.min_regions), max(policy.max_regions, policy.min_regions))]


@given(found=detections(), policy=POLICIES)
def test_butd_is_nms_a_class_then_the_best_surviving_class_then_the_clamp(
    found: tuple[Array, Array], policy: Policy
) -> None:
    boxes, scores = found
    confidence, classes = [0.0] * len(boxes), scores.argmax(axis=1).tolist()
    for c in range(scores.shape[1]):
        for i in greedy(boxes, scores[:, c], policy.nms):
            if scores[i, c] > confidence[i]:
                confidence[i], classes[i] = float(scores[i, c]), c
    rows = clamped(confidence, policy)
    kept = butd(boxes, scores, policy)
    assert kept.rows_K.tolist() == rows
    assert kept.classes_K.tolist() == [classes[i] for i in rows]
    assert kept.scores_K.tolist() == [confidence[i] for i in rows]


@given(found=detections(), policy=POLICIES)
def test_agnostic_is_one_nms_over_best_classes_then_the_clamp(found: tuple[Array, Array], policy: Policy) -> None:
    boxes, scores = found
    best = scores.max(axis=1)
    alive = greedy(boxes, best, policy.nms)
    confidence = [float(best[i]) if i in alive else 0.0 for i in range(len(boxes))]
    kept = agnostic(boxes, scores, policy)
    assert kept.rows_K.tolist() == clamped(confidence, policy)
    assert kept.scores_K.tolist() == [confidence[i] for i in kept.rows_K]
    assert kept.classes_K.tolist() == [int(scores[i].argmax()) for i in kept.rows_K]


@given(found=detections(), policy=POLICIES)
def test_confidence_falls_and_there_is_always_a_region(found: tuple[Array, Array], policy: Policy) -> None:
    for rule in (agnostic, butd):
        kept = rule(*found, policy)
        assert (np.diff(kept.scores_K) <= 0).all()
        assert min(len(found[0]), policy.min_regions) <= len(kept.rows_K) <= policy.max_regions
        assert len(set(kept.rows_K.tolist())) == len(kept.rows_K)


def test_survivors_are_those_of_torchvision() -> None:
    rng = np.random.default_rng(5)
    corners = rng.uniform(0, 60, (80, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(1, 40, (80, 2))], axis=1).astype(np.float32)
    scores = rng.permutation(400).reshape(80, 5).astype(np.float32)
    kept = survives(boxes, scores, 0.4)
    for c in range(5):
        expected = nms(torch.from_numpy(boxes), torch.from_numpy(scores[:, c].copy()), 0.4)
        assert np.flatnonzero(kept[:, c]).tolist() == sorted(expected.tolist())


def test_iou_of_a_quarter_overlap_by_hand() -> None:
    # 2×2 and 2×2 share 1×1: 1 / (4 + 4 − 1); an empty box shares nothing, even with itself.
    boxes = np.array([[0, 0, 2, 2], [1, 1, 3, 3], [5, 5, 5, 5]], np.float32)
    assert np.allclose(iou(boxes), np.array([[1, 1 / 7, 0], [1 / 7, 1, 0], [0, 0, 0]]))
