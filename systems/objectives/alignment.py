"""Word-region alignment: how cheaply the words of a caption can be carried to the regions of an image (WRA)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.precision import as_float32


def alignment_distance(words_BTH: Tensor, regions_BRH: Tensor, words_BT: Tensor, regions_BR: Tensor) -> Tensor:
    """(B,) optimal transport distance of words and regions, 0 to 2, at the cost 1 − cosine (UNITER, section 3.2).

    words_BT, regions_BR: bool, False is padding. A row without one of both has distance 0. The plan is found without
    gradient, in float32, as in the authors' code (β = 0.5, 50 iterations). The gradient goes through the cost.
    """
    with torch.autocast(words_BTH.device.type, enabled=False):
        words_BTH, regions_BRH = (F.normalize(as_float32(vectors), dim=-1) for vectors in (words_BTH, regions_BRH))
        similarity_BTR = words_BTH @ regions_BRH.transpose(1, 2)
        pairs_BTR = words_BT[:, :, None] & regions_BR[:, None, :]
        cost_BTR = torch.where(pairs_BTR, 1 - similarity_BTR, 0)
        plan_BTR = transport_plan(cost_BTR.detach(), words_BT, regions_BR)
        return (plan_BTR * cost_BTR).sum(dim=(1, 2))


@torch.no_grad()
def transport_plan(
    cost_BTR: Tensor, words_BT: Tensor, regions_BR: Tensor, beta: float = 0.5, iterations: int = 50
) -> Tensor:
    """(B, T, R) the cheapest way to carry equal weights on the words to equal weights on the regions.

    Inexact proximal point method, IPOT (arXiv:1802.04307, algorithm 1, one inner step). The plan's rows sum to 1/words
    and its columns to 1/regions, up to what the iterations leave. It is 0 at padding.
    """
    both_B1 = words_BT.any(dim=1, keepdim=True) & regions_BR.any(dim=1, keepdim=True)  # else there is nothing to carry
    words, regions = (words_BT & both_B1).to(cost_BTR.dtype), (regions_BR & both_B1).to(cost_BTR.dtype)
    pairs_BTR = words[:, :, None] * regions[:, None, :]
    word_weight_BT1 = (words / words.sum(dim=1, keepdim=True).clamp(min=1)).unsqueeze(2)
    region_weight_BR1 = (regions / regions.sum(dim=1, keepdim=True).clamp(min=1)).unsqueeze(2)
    # Padding is carried nothing: its sums are 0, and divided by 1 instead.
    word_padding_BT1, region_padding_BR1 = (1 - words).unsqueeze(2), (1 - regions).unsqueeze(2)
    kernel_BTR = torch.exp(-cost_BTR / beta) * pairs_BTR
    # Regions first, as in UNITER's and ViLT's code: fifty iterations leave a difference of up to 1e-3 to the other way.
    plan_BTR, scale_BT1 = pairs_BTR, word_weight_BT1
    for _ in range(iterations):  # fifty times a handful of small steps: what counts is how few they are
        step_BTR = kernel_BTR * plan_BTR
        scale_BR1 = region_weight_BR1 / torch.baddbmm(region_padding_BR1, step_BTR.mT, scale_BT1)
        scale_BT1 = word_weight_BT1 / torch.baddbmm(word_padding_BT1, step_BTR, scale_BR1)
        plan_BTR = step_BTR.mul_(scale_BT1).mul_(scale_BR1.mT)
    return plan_BTR


def word_region_alignment(distance_B: Tensor, match_B: Tensor) -> Tensor:
    """Mean over the batch of the distance of matching pairs less that of mismatched ones. Returns a scalar.

    The paper minimises the distance of matching pairs. The term of mismatched pairs is the authors' code's, and ours.
    """
    return torch.where(match_B, distance_B, -distance_B).mean()
