"""Box arithmetic by the published rules: decoding, clipping, dropping and non-maximum suppression.

Letters: N boxes, K classes (or 1). Boxes are x1 y1 x2 y2 in pixels.

A GPU's work is queued, and whatever copies numbers to it or asks for some of them waits for all of it. So here numbers
from the host go in as scalars, or were copied once.
"""

from __future__ import annotations

import functools
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
    shift_NK2 = deltas_NK4[..., :2] / constants(weights[:2], deltas_NK4.device)
    growth_NK2 = deltas_NK4[..., 2:] / constants(weights[2:], deltas_NK4.device)
    if clamp:
        growth_NK2 = growth_NK2.clamp(max=GROWTH)
    new_centres = shift_NK2 * sides_N2[:, None] + centres_N2[:, None]
    new_sides = growth_NK2.exp() * sides_N2[:, None]
    ends = new_centres + 0.5 * new_sides - (1 if rule == "maskrcnn" else 0)
    return torch.cat([new_centres - 0.5 * new_sides, ends], dim=-1)


def clip(boxes: Tensor, size: tuple[int, int], rule: BoxRule) -> Tensor:
    """Boxes (…, 4) cut to a picture of this size (height, width). NaN stays NaN, for the stage to report."""
    height, width = (side - extra(rule) for side in size)
    x, y = boxes[..., 0::2].clamp(0, width), boxes[..., 1::2].clamp(0, height)
    return torch.stack([x, y], dim=-1).flatten(-2)


def large(boxes: Tensor, side: Tensor, ties: str, rule: BoxRule) -> Tensor:
    """Which boxes (…, 4) have both sides above `side` (…), or equal to it where `ties` is ">="."""
    plain, side = boxes[..., 2:] - boxes[..., :2], side[..., None]
    if ties == ">=":
        return (plain + extra(rule) >= side).all(dim=-1)
    return ((plain + extra(rule) > side) & (plain > 0)).all(dim=-1)


def suppress(boxes_N4: Tensor, rule: Suppression, most: int) -> Tensor:
    """The first `most` boxes that greedy suppression keeps of these, best first: their places, ascending.

    torchvision does the work. For "+ 1", a box whose far corner is moved out by one pixel has the wanted areas and
    overlaps; where an overlap of exactly the threshold suppresses too, the threshold is the next lower number.
    """
    iou = rule.iou if rule.ties == ">" else math.nextafter(rule.iou, -math.inf)
    # What is kept of the first boxes depends on no later one, and mostly they are enough.
    for count in (8 * most, len(boxes_N4)):
        some_N4 = boxes_N4[:count].float() + constants((0, 0, rule.plus_one, rule.plus_one), boxes_N4.device)
        # torchvision sorts by itself, on a GPU not stably: ranks as scores settle ties.
        ranks_N = torch.arange(len(some_N4), 0, -1, device=boxes_N4.device, dtype=torch.float32)
        kept: Tensor = torchvision_nms(some_N4, ranks_N, iou)
        if len(kept) >= most or len(some_N4) == len(boxes_N4):
            break
    return kept[:most]


@functools.cache
def constants(values: tuple[float, ...], device: torch.device) -> Tensor:
    """float32 numbers on the device, copied there once; for numbers of a detector's settings, which are few."""
    return torch.tensor(values, dtype=torch.float32, device=device)
