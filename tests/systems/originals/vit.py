"""ViT's masked patches (arXiv:2010.11929, B.1.2), whose code was not released, by vit-pytorch: the loss of colours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.systems.originals.drawn import Numbers, leaf, measured, numbers
from tests.systems.originals.taking import Originals

REPOSITORY, COMMIT = "lucidrains/vit-pytorch", "64a2ef6462bde61db4dd8f0887ee71192b273692"
B, PATCH, SIDE, BITS = 2, 4, 12, 3
U, COLOURS = (SIDE // PATCH) ** 2, 2 ** (3 * BITS)
MEAN, STD = (0.5, 0.4, 0.6), (0.5, 0.25, 0.3)
HIDDEN = torch.tensor([[1, 0, 0, 1, 0, 1, 1, 0, 0], [0, 1, 1, 1, 0, 0, 0, 0, 1]], dtype=torch.bool)


def logits() -> Tensor:
    return leaf("logits", B, U, COLOURS)


def pixels() -> Tensor:
    """(B, 3, SIDE, SIDE) float32, normalised. A patch of one row or so is brighter than 1 can be, before it is cut."""
    plain = numbers("pixels", B, 3, SIDE, SIDE).sigmoid() * 0.4
    light = numbers("light", B, 3, SIDE // PATCH, SIDE // PATCH).sigmoid().repeat_interleave(PATCH, 2)
    shown = (plain + light.repeat_interleave(PATCH, 3)).clamp(0, 1)
    mean, std = (torch.tensor(one).view(3, 1, 1) for one in (MEAN, STD))
    return ((shown - mean) / std).float()


def patch_means(given: Tensor, _: str, how: str, p1: int, p2: int) -> Tensor:
    """einops.reduce by the one pattern that is asked for: (B, 3, S, S) to (B, U, 3)."""
    assert how == "mean"
    cut = given.unfold(2, p1, p1).unfold(3, p2, p2)
    return cut.mean(dim=(4, 5)).flatten(2).transpose(1, 2)


def run(folder: Path) -> tuple[Any, Numbers]:
    original = Originals(folder, REPOSITORY, COMMIT)
    original.put(reduce=patch_means, rearrange=lambda given, _: given[None, None])
    original.take("vit_pytorch/mpp.py", "exists", "MPPLoss")
    predicted = logits()
    loss = original.MPPLoss(PATCH, 3, BITS, 1.0, MEAN, STD)(predicted, pixels(), HIDDEN)
    return original.facts(), measured(loss, {"logits": predicted})
