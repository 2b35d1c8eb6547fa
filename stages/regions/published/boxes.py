"""Box arithmetic by the published rules: decoding, clipping, dropping and non-maximum suppression.

Letters: N boxes, K classes (or 1). Boxes are x1 y1 x2 y2 in pixels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torchvision.ops import nms as torchvision_nms

from stages.regions.published.settings import BoxRule, Suppression

GROWTH = math.log(1000 / 16)  # all but caffe let a side grow at most by this


def extra(rule: BoxRule) -> int:
    """What the rule adds to x2 − x1 to get a width."""
    return 0 if rule == "continuous" else 1


def decode(
    boxes_N4: Tensor, deltas_NK4: Tensor, rule: BoxRule, weights: tuple[float, ...], clamp: bool = True
) -> Tensor:
    """The boxes that deltas (N, K, 4) make of boxes (N, 4): (N, K, 4), float32."""
    deltas_NK4 = deltas_NK4.float()
    sides_N2 = boxes_N4[:, 2:] - boxes_N4[:, :2] + extra(rule)
    centres_N2 = boxes_N4[:, :2] + 0.5 * sides_N2
    shift_NK2 = deltas_NK4[..., :2] / deltas_NK4.new_tensor(weights[:2])
    growth_NK2 = deltas_NK4[..., 2:] / deltas_NK4.new_tensor(weights[2:])
    if clamp:
        growth_NK2 = growth_NK2.clamp(max=GROWTH)
    new_centres = shift_NK2 * sides_N2[:, None] + centres_N2[:, None]
    new_sides = growth_NK2.exp() * sides_N2[:, None]
    ends = new_centres + 0.5 * new_sides - (1 if rule == "maskrcnn" else 0)
    return torch.cat([new_centres - 0.5 * new_sides, ends], dim=-1)


def clip(boxes: Tensor, size: tuple[int, int], rule: BoxRule) -> Tensor:
    """Boxes (…, 4) cut to a picture of this size (height, width); NaN stays NaN, for the stage to report."""
    height, width = size
    limits = boxes.new_tensor([width, height, width, height]) - extra(rule)
    return boxes.clamp(min=0).minimum(limits)


def large(boxes_N4: Tensor, side: float, ties: str, rule: BoxRule) -> Tensor:
    """Which boxes have both sides above `side`, or equal to it where `ties` is ">="."""
    plain_N2 = boxes_N4[:, 2:] - boxes_N4[:, :2]
    sides_N2 = plain_N2 + extra(rule)
    if ties == ">=":
        return (sides_N2 >= side).all(dim=1)
    return ((sides_N2 > side) & (plain_N2 > 0)).all(dim=1)


def suppress(boxes_N4: Tensor, scores_N: Tensor, rule: Suppression) -> Tensor:
    """Which boxes greedy suppression keeps, as their places, best first; of equal scores the first goes first.

    torchvision does the work. For "+ 1", a box whose far corner is moved out by one pixel has the wanted areas and
    overlaps; where an overlap of exactly the threshold suppresses too, the threshold is the next lower number.
    """
    order_N = scores_N.argsort(descending=True, stable=True)
    sorted_N4 = boxes_N4[order_N].float()
    sorted_N4 = sorted_N4 + sorted_N4.new_tensor([0, 0, 1, 1]) * rule.plus_one
    # torchvision sorts by itself, on a GPU not stably: ranks as scores settle ties.
    ranks_N = torch.arange(len(order_N), 0, -1, device=order_N.device, dtype=torch.float32)
    iou = rule.iou if rule.ties == ">" else math.nextafter(rule.iou, -math.inf)
    kept: Tensor = torchvision_nms(sorted_N4, ranks_N, iou)
    return order_N[kept]
