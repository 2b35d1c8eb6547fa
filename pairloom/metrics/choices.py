"""Figures of scores alone: zero-shot classes, Winoground's sets of two images and two captions, SugarCrepe's pairs."""

from __future__ import annotations

import torch
from torch import Tensor


def top(scores_IC: Tensor, labels_I: Tensor, count: int) -> float:
    """Share of images whose class is among the `count` best of C. A tie counts against it."""
    own_I = scores_IC.gather(1, labels_I[:, None])
    return ((scores_IC >= own_I).sum(dim=1) <= count).float().mean().item()


def winoground(scores_E22: Tensor) -> dict[str, float]:
    """Text, image and group score (arXiv:2204.03162, equations 1 to 3), of E sets.

    scores: (E, 2, 2), how well image i goes with caption c at [:, i, c]. Image 0 belongs to caption 0. Text: for each
    image the right caption is better. Image: for each caption the right image is. Group: both. Equal scores are wrong.
    By chance 1/4, 1/4 and 1/6.
    """
    (first_00, first_01), (second_10, second_11) = (image_E2.unbind(dim=-1) for image_E2 in scores_E22.unbind(dim=1))
    text = (first_00 > first_01) & (second_11 > second_10)
    image = (first_00 > second_10) & (second_11 > first_01)
    shares = torch.stack([text, image, text & image]).float().mean(dim=1).tolist()
    return dict(zip(("text", "image", "group"), shares, strict=True))


def two_way(right_E: Tensor, wrong_E: Tensor) -> float:
    """SugarCrepe's accuracy (arXiv:2306.14610): how often the right caption scores higher. By chance a half."""
    return (right_E > wrong_E).float().mean().item()
