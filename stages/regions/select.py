"""Which of a picture's regions are kept, in which order and under which class: pure functions on arrays.

Where the published code has an oddity, the default here is what was meant, and `faithful` is what was done:

| policy | as in | oddity that `faithful` keeps |
|---|---|---|
| butd | BUTD, MILVLG | proposals' order unless a clamp fires. The class is argmax of all scores, survived or not |
| fixed-36 | BUTD's 36 boxes: LXMERT, InterBERT | both, as above |
| vmb-100 | ViLBERT 12-in-1, MMF | the class, as above |
| agnostic-stepped | airsplay, Hugging Face | fewer than `min_regions` when the last step leaves fewer |
| vinvl-filter1 | VinVL | no region that is suppressed in every class, even if fewer than `min_regions` are left |
| vinvl-filter2, starter | VinVL's faster filter | none |
| detectron2 | FastRCNNOutputLayers, and MILVLG's `detectron2` mode by it | as agnostic-stepped |

Equal scores go to the earlier proposal everywhere. The published code leaves their order to its sorting routine.

Letters: N proposals, C object classes, E (proposal, class) pairs, K kept regions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from stages.regions.suppression import Array, Overlaps, best_by_class, survivors, survivors_by_class


@dataclass(frozen=True)
class Policy:
    """How many regions are kept: those from `min_score` on, but at least and at most so many, as BUTD clamps."""

    rule: Literal["per-class", "agnostic", "stepped", "class-boxes"]
    min_regions: int
    max_regions: int
    min_score: float
    nms: float  # a region that overlaps a better one by more than this IoU is suppressed
    ties: Literal[">", ">="] = ">"  # rule per-class: what an overlap of exactly `nms` does, ">=" suppresses
    last_nms: float = 0.9  # rule stepped: `nms` rises by tenths to this, until enough are left …
    steps: tuple[float, ...] | None = None  # … or through these thresholds. Rule class-boxes can have them too
    box_pixel: float = 0.0  # 1 where a box is taken to contain its last pixel, so that its width is x2 − x1 + 1
    stored_pixels: bool = False  # IoU in pixels of the stored picture; with box_pixel 1 the scale matters
    keeps_order: bool = False  # faithful: the proposals' order unless a clamp fires
    argmax_class: bool = False  # faithful: class and score are the best of all, not the best that survived
    faithful: bool = False


# Of caffe's cpu_nms.pyx and MILVLG's CPU code. Their GPU kernels, which made no published features, have ">".
BUTD = Policy(
    "per-class", 10, 100, 0.2, 0.3, ties=">=", box_pixel=1.0, stored_pixels=True, keeps_order=True, argmax_class=True
)
POLICIES = {
    "butd": BUTD,
    "fixed-36": replace(BUTD, min_regions=36, max_regions=36),
    "vmb-100": Policy("per-class", 100, 100, 0.0, 0.5, box_pixel=1.0, stored_pixels=True, argmax_class=True),
    "agnostic-stepped": Policy("stepped", 36, 36, 0.0, 0.3),
    # VinVL's NMS is torchvision's: no + 1, unlike its box maths.
    "vinvl-filter1": Policy("per-class", 10, 100, 0.2, 0.3),
    "vinvl-filter2": Policy("agnostic", 10, 100, 0.2, 0.5),
    "detectron2": Policy("class-boxes", 0, 100, 0.05, 0.5),
    "starter": Policy("agnostic", 10, 36, 0.2, 0.5),
}


@dataclass(frozen=True)
class Selected:
    """The kept regions, best first (but see `faithful`): their rows, their classes, and their confidences."""

    rows_K: Array
    classes_K: Array
    scores_K: Array


def select(boxes: Array, scores_NC: Array, policy: Policy) -> Selected:
    """The regions that the policy keeps of these proposals.

    boxes: (N, 4), or (N, C, 4) where each class has its own. A rule that needs one box a proposal takes that of its
    best class. N may be 0.
    """
    if not len(scores_NC):
        none = np.zeros(0, np.int64)
        return Selected(none, none, np.zeros(0, np.float32))
    return RULES[policy.rule](boxes, scores_NC, policy)


def agnostic(boxes: Array, scores_NC: Array, policy: Policy) -> Selected:
    """Each region by its best class, one NMS over all of them. The suppressed have confidence 0."""
    classes_N, best_N = scores_NC.argmax(axis=1), scores_NC.max(axis=1)
    kept_N = survivors(Overlaps.of(single(boxes, classes_N), policy.nms, policy.box_pixel), best_N)
    return clamp(classes_N, np.where(kept_N, best_N, 0), policy)


def stepped(boxes: Array, scores_NC: Array, policy: Policy) -> Selected:
    """As `agnostic`, with a threshold that rises until `min_regions` survive. Below `min_score` none does.

    Where even the last step leaves fewer, the best of the suppressed ones join them. (Hugging Face's code returns the
    picture before this one in that case, or raises.)
    """
    classes_N, best_N = scores_NC.argmax(axis=1), scores_NC.max(axis=1)
    boxes_N4, good_N = single(boxes, classes_N), best_N >= policy.min_score
    kept_N = np.zeros(len(best_N), bool)
    for threshold in thresholds(policy):
        kept_N = good_N & survivors(Overlaps.of(boxes_N4, threshold, policy.box_pixel), best_N)
        if kept_N.sum() >= policy.min_regions:
            break
    order = np.argsort(-best_N, kind="stable")
    first = [*order[kept_N[order]]]
    if not policy.faithful:
        first += [*order[~kept_N[order]]][: max(policy.min_regions - len(first), 0)]
    rows_K = np.array(first[: policy.max_regions], np.int64)
    rows_K = rows_K[np.lexsort((rows_K, -best_N[rows_K]))]
    return Selected(rows_K, classes_N[rows_K], best_N[rows_K])


def thresholds(policy: Policy) -> tuple[float, ...]:
    """The thresholds of suppression that are tried, one after the other, until `min_regions` are left."""
    if policy.steps is not None:
        return policy.steps
    if policy.rule != "stepped":
        return (policy.nms,)
    found = [policy.nms]
    while found[-1] <= policy.last_nms - 0.05:
        found.append(found[-1] + 0.1)
    return tuple(found)


def per_class(boxes: Array, scores_NC: Array, policy: Policy) -> Selected:
    """NMS in each class, then each region by the best class in which it survived (arXiv:1707.07998)."""
    threshold = policy.nms if policy.ties == ">" else math.nextafter(policy.nms, -math.inf)
    argmax_N = scores_NC.argmax(axis=1)
    overlaps = Overlaps.of(single(boxes, argmax_N), threshold, policy.box_pixel)
    confidence_N, classes_N = confidences(overlaps, scores_NC, argmax_N, policy)
    kept = clamp(classes_N, confidence_N, policy)
    if not policy.faithful:
        return kept
    if not policy.argmax_class:  # VinVL's filter_results_peter: what no class keeps is no detection
        alive_K = kept.scores_K > 0
        return Selected(kept.rows_K[alive_K], kept.classes_K[alive_K], kept.scores_K[alive_K])
    above = int((confidence_N >= policy.min_score).sum())
    in_order = policy.keeps_order and policy.min_regions <= above <= policy.max_regions
    rows_K = np.sort(kept.rows_K) if in_order else kept.rows_K
    return Selected(rows_K, argmax_N[rows_K], scores_NC[rows_K, argmax_N[rows_K]])


def confidences(overlaps: Overlaps, scores_NC: Array, argmax_N: Array, policy: Policy) -> tuple[Array, Array]:
    """(N,) confidence and class of each region: its best score among the classes whose NMS it survives, else 0.

    Exact for every region that the policy may keep. A lower one may be 0. NMS looks downwards only, so that scores
    below a floor change nothing above it: the floor starts high, where few classes play, and sinks until enough
    regions stand above it.
    """
    floor = max(policy.min_score, 0.125)
    most = policy.max_regions + policy.faithful  # one more says whether the upper clamp fires
    while True:
        confidence_N, best_N = best_by_class(overlaps, scores_NC, floor)
        known = int((confidence_N >= floor).sum())
        above = known if floor <= policy.min_score else most
        if floor == 0 or known >= max(policy.min_regions, min(most, above)):
            break
        floor = floor / 8 if floor > 1e-5 else 0.0
    return confidence_N, np.where(confidence_N > 0, best_N, argmax_N)


def class_boxes(boxes: Array, scores_NC: Array, policy: Policy) -> Selected:
    """detectron2's own: pairs of region and class above `min_score`, NMS in each class on its boxes, the best of all.

    A region may be kept under several classes. Where there are steps, the next one is taken until `min_regions` are
    left. Fewer than that are filled up with the next best pairs, unless the selection is faithful.
    """
    good_E = np.flatnonzero(scores_NC > policy.min_score)  # of one dimension, which is found several times sooner
    pairs = np.divmod(good_E, scores_NC.shape[1])
    for threshold in thresholds(policy):
        found = best_pairs(boxes, scores_NC, pairs, replace(policy, nms=threshold), policy.max_regions)
        if len(found.rows_K) >= policy.min_regions:
            return found
    if policy.faithful:
        return found
    every = np.indices(scores_NC.shape).reshape(2, -1)
    return best_pairs(boxes, scores_NC, (every[0], every[1]), policy, policy.min_regions)


def best_pairs(boxes: Array, scores_NC: Array, pairs: tuple[Array, ...], policy: Policy, count: int) -> Selected:
    """Of these pairs (rows (E,), classes (E,)) the best that NMS in each class keeps, at most `count`."""
    rows_E, classes_E = pairs
    order = np.argsort(-scores_NC[rows_E, classes_E], kind="stable")
    rows_E, classes_E = rows_E[order], classes_E[order]
    boxes_E4 = boxes[rows_E] if boxes.ndim == 2 else boxes[rows_E, classes_E]
    overlaps = Overlaps.of(boxes_E4, policy.nms, policy.box_pixel)
    kept = np.flatnonzero(survivors_by_class(overlaps, classes_E))[:count]
    return Selected(rows_E[kept], classes_E[kept], scores_NC[rows_E[kept], classes_E[kept]])


def clamp(classes_N: Array, confidence_N: Array, policy: Policy) -> Selected:
    """The most confident regions, equal ones in the order of the proposals."""
    count = int((confidence_N >= policy.min_score).sum())
    count = max(policy.min_regions, min(policy.max_regions, count))
    rows_K = np.argsort(-confidence_N, kind="stable")[:count]
    return Selected(rows_K, classes_N[rows_K], confidence_N[rows_K])


def single(boxes: Array, classes_N: Array) -> Array:
    """One box a proposal: the only one, or that of its class."""
    return boxes if boxes.ndim == 2 else boxes[np.arange(len(boxes)), classes_N]


RULES: dict[str, Callable[[Array, Array, Policy], Selected]] = {
    "per-class": per_class,
    "agnostic": agnostic,
    "stepped": stepped,
    "class-boxes": class_boxes,
}
