"""Selection against slow, literal readings of the published rules."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torchvision.ops import batched_nms, nms

from pairloom.boxes import iou
from stages.regions import compat, suppression
from stages.regions.select import POLICIES, Policy, Selected, select
from stages.regions.suppression import Array, Overlaps, best_by_class

# Few different coordinates and scores, so that equal boxes, empty boxes and ties are common.
SIDES = st.integers(0, 6)
BOX = st.tuples(SIDES, SIDES, SIDES, SIDES).map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3]))
SCORES = st.sampled_from([0.0, 0.001, 0.0625, 0.125, 0.2, 0.25, 0.5, 0.75, 1.0])


def policies(*names: str, faithful: bool = False) -> st.SearchStrategy[Policy]:
    """The named ones with smaller numbers, since the examples are small."""
    return st.builds(
        lambda name, low, more, score, threshold: replace(
            POLICIES[name], min_regions=low, max_regions=low + more, min_score=score, nms=threshold, faithful=faithful
        ),
        st.sampled_from(names),
        st.integers(1, 4),
        st.integers(0, 4),
        st.sampled_from([0.0, 0.05, 0.25, 0.5, 1.0]),
        st.sampled_from([0.0, 0.3, 0.5, 0.7, 1.0]),
    )


@st.composite
def detections(draw: st.DrawFn, own_boxes: bool = False) -> tuple[Array, Array]:
    count, classes = draw(st.integers(1, 12)), draw(st.integers(1, 4))
    boxes = draw(st.lists(BOX, min_size=count * (classes if own_boxes else 1), max_size=count * classes))
    shape = (count, classes, 4) if own_boxes else (count, 4)
    scores = draw(arrays(np.float32, (count, classes), elements=SCORES.map(lambda x: float(np.float32(x)))))
    return np.array(boxes, np.float32)[: int(np.prod(shape[:-1]))].reshape(shape), scores


def overlap(one: Array, other: Array, pixel: float) -> float:
    one, other = one.astype(np.float64), other.astype(np.float64)  # 6/20 is more than 0.3 in float32
    width = min(one[2], other[2]) - max(one[0], other[0]) + pixel
    height = min(one[3], other[3]) - max(one[1], other[1]) + pixel
    shared = max(width, 0) * max(height, 0)
    areas = [(b[2] - b[0] + pixel) * (b[3] - b[1] + pixel) for b in (one, other)]
    union = sum(areas) - shared
    return float(shared / union) if union > 0 else 0.0


def greedy(boxes: Array, scores: Array, threshold: float, pixel: float, ties: str = ">") -> list[int]:
    kept: list[int] = []
    for i in sorted(range(len(boxes)), key=lambda i: (-scores[i], i)):
        shared = [overlap(boxes[i], boxes[j], pixel) for j in kept]
        if not any(one > threshold or (one == threshold and ties == ">=") for one in shared):
            kept.append(i)
    return kept


def clamped(confidence: list[float], policy: Policy) -> list[int]:
    above = sum(value >= policy.min_score for value in confidence)
    order = sorted(range(len(confidence)), key=lambda i: (-confidence[i], i))
    return order[: min(max(above, policy.min_regions), policy.max_regions)]


def max_conf(boxes: Array, scores: Array, policy: Policy) -> tuple[list[float], list[int]]:
    """BUTD's loop over classes: max_conf[keep] = max(max_conf[keep], scores[keep]), and the class that set it."""
    confidence, classes = [0.0] * len(boxes), scores.argmax(axis=1).tolist()
    for c in range(scores.shape[1]):
        for i in greedy(boxes, scores[:, c], policy.nms, policy.box_pixel, policy.ties):
            if scores[i, c] > confidence[i]:
                confidence[i], classes[i] = float(scores[i, c]), c
    return confidence, classes


def as_lists(kept: Selected) -> tuple[list[int], list[int], list[float]]:
    return kept.rows_K.tolist(), kept.classes_K.tolist(), kept.scores_K.tolist()


@settings(deadline=None)
@given(found=detections(), policy=policies("butd", "fixed-36", "vmb-100", "vinvl-filter1"))
def test_per_class_is_nms_a_class_then_the_best_surviving_class_then_the_clamp(
    found: tuple[Array, Array], policy: Policy
) -> None:
    confidence, classes = max_conf(*found, policy)
    rows = clamped(confidence, policy)
    wanted = rows, [classes[i] for i in rows], [confidence[i] for i in rows]
    assert as_lists(select(*found, policy)) == wanted


@settings(deadline=None)
@given(found=detections(), policy=policies("butd", "fixed-36", "vmb-100", faithful=True))
def test_faithful_keeps_the_proposals_order_and_the_class_of_all_scores(
    found: tuple[Array, Array], policy: Policy
) -> None:
    boxes, scores = found
    confidence, _ = max_conf(boxes, scores, policy)
    rows = [i for i, value in enumerate(confidence) if value >= policy.min_score]
    if not policy.min_regions <= len(rows) <= policy.max_regions or not policy.keeps_order:
        rows = clamped(confidence, policy)
    wanted = rows, [int(scores[i].argmax()) for i in rows], [float(scores[i].max()) for i in rows]
    assert as_lists(select(boxes, scores, policy)) == wanted


def filter_results_peter(boxes: Array, scores: Array, policy: Policy) -> tuple[list[int], list[int], list[float]]:
    """scene_graph_benchmark's box_head/inference.py, with background as class 0 before ours."""
    with_background = np.concatenate([np.full((len(scores), 1), 2.0, np.float32), scores], axis=1)
    nms_mask = np.zeros_like(with_background)
    for j in range(1, with_background.shape[1]):
        nms_mask[greedy(boxes, with_background[:, j], policy.nms, 0.0), j] = 1
    dists_all = nms_mask * with_background
    scores_pre, labels_pre = dists_all.max(axis=1), dists_all.argmax(axis=1)
    inds_pre = np.flatnonzero(scores_pre)
    scores_pre, labels_pre = scores_pre[inds_pre], labels_pre[inds_pre]
    idx = np.argsort(-scores_pre, kind="stable")
    num_dets = int((scores_pre >= policy.min_score).sum())
    keep = idx[: min(max(num_dets, policy.min_regions), policy.max_regions)]
    return inds_pre[keep].tolist(), (labels_pre[keep] - 1).tolist(), scores_pre[keep].tolist()


@pytest.mark.parametrize(("name", "kept"), [("butd", [0]), ("fixed-36", [0]), ("vinvl-filter1", [0, 1])])
def test_an_overlap_of_exactly_the_threshold_is_suppressed_by_the_cpu_code_alone(name: str, kept: list[int]) -> None:
    """Areas of 10 and 3 with the last pixel inside, or without it: 3 of 10 is what `cpu_nms.pyx` takes for 0.3."""
    less = POLICIES[name].box_pixel
    boxes = np.array([[0, 0, 10 - less, 1 - less], [0, 0, 3 - less, 1 - less]], np.float32)
    scores = np.array([[0.9], [0.8]], np.float32)
    found = select(boxes, scores, replace(POLICIES[name], min_regions=1))
    assert found.rows_K[found.scores_K > 0.5].tolist() == kept


def test_the_proposals_order_is_left_where_more_than_the_most_pass_a_low_score() -> None:
    """Seven boxes apart of which five pass 0.05 and four are kept: the clamp fires, so the best come first."""
    boxes = np.array([[x, 0, x + 5, 5] for x in range(0, 70, 10)], np.float32)
    scores = np.array([[0], [0.0625], [0.125], [0], [0.125], [0.125], [0.2]], np.float32)
    policy = replace(POLICIES["butd"], min_regions=1, max_regions=4, min_score=0.05, faithful=True)
    assert select(boxes, scores, policy).rows_K.tolist() == [6, 2, 4, 5]
    assert select(boxes, scores, replace(policy, max_regions=5)).rows_K.tolist() == [1, 2, 4, 5, 6]


@settings(deadline=None)
@given(found=detections(), policy=policies("vinvl-filter1", faithful=True))
def test_vinvls_faithful_class_and_score_are_those_that_survived(found: tuple[Array, Array], policy: Policy) -> None:
    assert as_lists(select(*found, policy)) == filter_results_peter(*found, policy)


@settings(deadline=None)
@given(found=detections(), policy=policies("starter", "vinvl-filter2"))
def test_agnostic_is_one_nms_over_best_classes_then_the_clamp(found: tuple[Array, Array], policy: Policy) -> None:
    boxes, scores = found
    best = scores.max(axis=1)
    alive = greedy(boxes, best, policy.nms, policy.box_pixel)
    confidence = [float(best[i]) if i in alive else 0.0 for i in range(len(boxes))]
    rows = clamped(confidence, policy)
    wanted = rows, [int(scores[i].argmax()) for i in rows], [confidence[i] for i in rows]
    assert as_lists(select(boxes, scores, policy)) == wanted


@settings(deadline=None)
@given(found=detections(own_boxes=True), policy=policies("agnostic-stepped"), faithful=st.booleans())
def test_stepped_raises_the_threshold_until_enough_survive(
    found: tuple[Array, Array], policy: Policy, faithful: bool
) -> None:
    boxes, scores = found
    policy = replace(policy, faithful=faithful)
    best, classes = scores.max(axis=1), scores.argmax(axis=1)
    own = np.array([boxes[i, c] for i, c in enumerate(classes)])
    rows: list[int] = []
    for step in range(10):
        threshold = policy.nms + 0.1 * step
        if step and threshold > 0.9 + 1e-6:
            break
        rows = [i for i in greedy(own, best, threshold, 0) if best[i] >= policy.min_score]
        if len(rows) >= policy.min_regions:
            break
    order = sorted(range(len(best)), key=lambda i: (-best[i], i))
    if not faithful:
        rows += [i for i in order if i not in rows][: max(policy.min_regions - len(rows), 0)]
    rows = sorted(rows[: policy.max_regions], key=lambda i: (-best[i], i))
    assert as_lists(select(boxes, scores, policy)) == (rows, classes[rows].tolist(), best[rows].tolist())


@settings(deadline=None)
@given(found=detections(own_boxes=True), policy=policies("detectron2"), low=st.integers(0, 3))
def test_class_boxes_keeps_pairs_above_the_score_by_nms_in_each_class(
    found: tuple[Array, Array], policy: Policy, low: int
) -> None:
    boxes, scores = found
    policy = replace(policy, min_regions=low, max_regions=max(policy.max_regions, low))
    alive = [
        (-float(scores[i, c]), i, c)
        for c in range(scores.shape[1])
        for i in greedy(boxes[:, c], scores[:, c], policy.nms, 0)
    ]
    good = [pair for pair in alive if -pair[0] > policy.min_score]
    wanted = sorted(good if len(good) >= low else alive)[: policy.max_regions]
    wanted = wanted if len(good) >= low else wanted[:low]
    rows, classes, kept_scores = as_lists(select(boxes, scores, policy))
    assert list(zip([-s for s in kept_scores], rows, classes, strict=True)) == wanted


def test_class_boxes_is_filled_up_where_suppression_leaves_too_few() -> None:
    """Two equal boxes pass the score and suppress each other. A third, apart, passes it not."""
    boxes = np.array([[0, 0, 9, 9], [0, 0, 9, 9], [30, 30, 39, 39]], np.float32)[:, None]
    scores = np.array([[0.9], [0.8], [0.01]], np.float32)
    kept = select(boxes, scores, replace(POLICIES["detectron2"], min_regions=2))
    assert kept.rows_K.tolist() == [0, 2]
    assert select(boxes, scores, POLICIES["detectron2"]).rows_K.tolist() == [0]


@settings(deadline=None)
@given(found=detections(), name=st.sampled_from(sorted(POLICIES)), low=st.integers(1, 4))
def test_confidence_falls_and_there_is_always_a_region(found: tuple[Array, Array], name: str, low: int) -> None:
    policy = replace(POLICIES[name], min_regions=low, max_regions=8)
    kept = select(*found, policy)
    assert (np.diff(kept.scores_K) <= 0).all()
    assert min(len(found[0]), 1) <= len(kept.rows_K) <= policy.max_regions
    pairs = set(zip(kept.rows_K.tolist(), kept.classes_K.tolist(), strict=True))
    assert len(pairs) == len(kept.rows_K)


@settings(deadline=None)
@given(
    found=detections(), name=st.sampled_from(["butd", "vmb-100", "agnostic-stepped", "starter"]), n=st.integers(1, 6)
)
def test_a_shorter_fixed_selection_is_a_prefix_of_a_longer_one(found: tuple[Array, Array], name: str, n: int) -> None:
    """With 36 for 36 as published: stepped may stop at a lower threshold, so there it holds for one step only."""
    one_step = replace(POLICIES[name], last_nms=POLICIES[name].nms)
    short = select(*found, replace(one_step, min_regions=n, max_regions=n))
    long = select(*found, replace(one_step, min_regions=min(n, 10), max_regions=100, min_score=0.0))
    assert as_lists(short) == tuple(each[:n] for each in as_lists(long))


def detections_at_size(seed: int, peaked: float, count: int = 300, classes: int = 1600) -> tuple[Array, Array]:
    """Boxes and class probabilities as a detector's. The larger `peaked`, the surer."""
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 600, (count, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(8, 300, (count, 2))], axis=1).astype(np.float32)
    logits = torch.from_numpy(rng.normal(0, peaked, (count, classes)).astype(np.float32))
    return boxes, logits.softmax(dim=1).numpy()


def best_surviving(boxes: Array, scores: Array, threshold: float) -> Array:
    """Each region's best score among the classes whose NMS it survives, by a call of torchvision a class."""
    confidence = np.zeros(len(boxes), np.float32)
    for c in range(scores.shape[1]):
        kept = nms(torch.from_numpy(boxes), torch.from_numpy(scores[:, c].copy()), threshold).numpy()
        confidence[kept] = np.maximum(confidence[kept], scores[kept, c])
    return confidence


@pytest.mark.parametrize(("name", "peaked"), [("butd", 3.0), ("vmb-100", 0.1)])
def test_sixteen_hundred_classes_come_out_as_from_as_many_calls_of_torchvision(name: str, peaked: float) -> None:
    boxes, scores = detections_at_size(1, peaked)
    policy = replace(POLICIES[name], box_pixel=0.0, ties=">")  # as torchvision takes a box
    confidence = best_surviving(boxes, scores, policy.nms)
    rows = clamped(confidence.tolist(), policy)
    found = select(boxes, scores, policy)
    assert found.rows_K.tolist() == rows
    assert found.scores_K.tolist() == confidence[rows].tolist()
    assert (scores[found.rows_K, found.classes_K] == found.scores_K)[found.scores_K > 0].all()


@pytest.mark.parametrize("side", [3, 300])
def test_vinvls_filters_are_torchvisions_nms(side: int) -> None:
    """On small boxes a last pixel that counts would be seen: VinVL counts it in its box maths, not here."""
    boxes, scores = detections_at_size(3, 3.0, classes=200)
    boxes = boxes * np.float32(side / 600)
    confidence = best_surviving(boxes, scores, 0.3)
    count = min(max(int((confidence >= 0.2).sum()), 10), 100)
    found = select(boxes, scores, POLICIES["vinvl-filter1"])
    assert found.rows_K.tolist() == np.argsort(-confidence, kind="stable")[:count].tolist()

    best = torch.from_numpy(scores.max(axis=1))
    kept = nms(torch.from_numpy(boxes), best, 0.5)
    count = min(max(int((best[kept] >= 0.2).sum()), 10), 100)
    assert select(boxes, scores, POLICIES["vinvl-filter2"]).rows_K.tolist() == kept[:count].tolist()


def test_detectron2s_rule_keeps_what_batched_nms_keeps() -> None:
    boxes, scores = detections_at_size(2, 3.0, count=200, classes=80)
    rows, classes = np.nonzero(scores > 0.05)
    values = torch.from_numpy(scores[rows, classes])
    kept = batched_nms(torch.from_numpy(boxes[rows]).double(), values.double(), torch.from_numpy(classes), 0.5)[:100]
    found = select(boxes, scores, POLICIES["detectron2"])
    assert found.rows_K.tolist() == rows[kept].tolist()
    assert found.classes_K.tolist() == classes[kept].tolist()


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 1000), wanted=st.integers(1, 12), steps=st.sampled_from([(0.1, 0.3, 0.5), (0.5, 0.7, 0.9)]))
def test_steps_of_detectron2s_rule_are_those_of_airsplays_notebook(
    seed: int, wanted: int, steps: tuple[float, ...]
) -> None:
    """Which calls fast_rcnn_inference_single_image anew until so many are left."""
    compat.apply()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from detectron2.modeling.roi_heads.fast_rcnn import fast_rcnn_inference_single_image
    boxes, scores = detections_at_size(seed, 1.0, count=12, classes=4)
    own = torch.from_numpy(np.repeat(boxes[:, None], 4, axis=1).reshape(len(boxes), -1))
    with_background = torch.from_numpy(np.pad(scores, ((0, 0), (0, 1))))
    for threshold in steps:
        instances, ids = fast_rcnn_inference_single_image(own, with_background, (1000, 1000), 0.2, threshold, wanted)
        if len(ids) == wanted:
            break
    changes: dict[str, Any] = {
        "min_score": 0.2,
        "min_regions": wanted,
        "max_regions": wanted,
        "nms": steps[0],
        "steps": steps,
    }
    found = select(boxes, scores, replace(POLICIES["detectron2"], faithful=True, **changes))
    assert found.rows_K.tolist() == ids.tolist()
    assert found.classes_K.tolist() == instances.pred_classes.tolist()
    assert len(select(boxes, scores, replace(POLICIES["detectron2"], **changes)).rows_K) == wanted


def test_no_proposals_give_no_regions() -> None:
    for policy in POLICIES.values():
        kept = select(np.zeros((0, 4), np.float32), np.zeros((0, 7), np.float32), policy)
        assert as_lists(kept) == ([], [], [])


def test_survivors_are_those_of_torchvision() -> None:
    boxes, scores = detections_at_size(5, 1.0, count=80, classes=5)
    over, kept = Overlaps.of(boxes, 0.4), np.zeros_like(scores)
    for c in range(5):
        survived = nms(torch.from_numpy(boxes), torch.from_numpy(scores[:, c].copy()), 0.4).numpy()
        kept[survived, c] = scores[survived, c]
        assert np.flatnonzero(best_by_class(over, scores[:, c : c + 1], 0.0)[0]).tolist() == sorted(survived.tolist())
    best, classes = best_by_class(over, scores, 0.0)
    assert best.tolist() == kept.max(axis=1).tolist()
    assert classes.tolist() == kept.argmax(axis=1).tolist()


@given(
    corners=arrays(np.float32, (12, 2), elements=st.integers(0, 20)),
    sides=arrays(np.float32, (12, 2), elements=st.integers(0, 9)),
    threshold=st.sampled_from([0.25, 0.3, 1 / 3, 0.5]),  # what whole numbers can overlap by exactly, too
    box_pixel=st.sampled_from([0.0, 1.0]),
)
def test_the_compiled_overlaps_are_those_of_iou(
    corners: Array, sides: Array, threshold: float, box_pixel: float
) -> None:
    boxes = np.concatenate([corners, corners + sides], axis=1)
    found = Overlaps.of(boxes, threshold, box_pixel).all_NN
    assert np.array_equal(found, iou(boxes, boxes, box_pixel) > threshold)


@given(
    corners=arrays(np.float32, (12, 2), elements=st.integers(0, 20)),
    sides=arrays(np.float32, (12, 2), elements=st.integers(0, 9)),
    scores=arrays(np.float32, (12, 3), elements=st.sampled_from([0, 0.1, 0.25, 0.5, 0.5, 1])),
    floor=st.sampled_from([0, 0.2, 0.5]),
    threshold=st.sampled_from([0.25, 1 / 3, 0.5]),
)
def test_greedy_suppression_is_that_of_a_plain_loop_whether_few_pairs_are_asked_for_or_all(
    corners: Array, sides: Array, scores: Array, floor: float, threshold: float
) -> None:
    boxes = np.concatenate([corners, corners + sides], axis=1)
    over = iou(boxes, boxes) > threshold
    kept = np.zeros_like(scores)
    for c in range(3):
        alive: list[int] = []
        for row in sorted(range(12), key=lambda row: (-scores[row, c], row)):
            if scores[row, c] >= floor and not over[row, alive].any():
                alive.append(row)
        kept[alive, c] = scores[alive, c]
    best, classes = best_by_class(Overlaps.of(boxes, threshold), scores, floor)
    assert np.array_equal(best, kept.max(axis=1))
    assert np.array_equal(classes, kept.argmax(axis=1))
    for columns in (1, 3):  # each way of asking, for the same pairs
        rows = np.concatenate([np.argsort(-scores[:, c], kind="stable") for c in range(columns)])
        edges = np.arange(columns + 1) * 12
        each = suppression._kept(boxes[rows].astype(np.float64), edges, threshold, 0.0)
        assert np.array_equal(each, suppression._kept_of_all(over, rows, edges))
