"""Objective `grounding`: which of an image's regions an expression means (RefCOCO, RefCOCO+, RefCOCOg).

A score a region, and a softmax over the regions of the image (UNITER, arXiv:1909.11740, appendix A.2). Right is the
region that overlaps the expression's box most, if by half; where none does, the row teaches nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pairloom.errors import ConfigError
from pairloom.loader.batch import IGNORE, Batch
from pairloom.metrics.boxes import LEAST, overlap
from systems.layers import initialised
from trainer.contract import Encoded, Fusion, Scored, Shapes
from trainer.precision import as_float32


@dataclass(frozen=True, kw_only=True)
class Settings:
    """There are none."""


def head(settings: Settings, model: Fusion, shapes: Shapes) -> nn.Linear:
    if shapes.feature_width is None:
        wrong = "it chooses among regions, and the recipe's units are pictures"
        raise ConfigError(wrong, "objective grounding", "take a recipe that reads regions, such as uniter")
    return initialised(nn.Linear(model.widths.units, 1), model.init_std)


def logits(encoded: Encoded, head: nn.Module) -> Tensor:
    """(B, R) of each region; −∞ for padding."""
    found: Tensor = as_float32(head(encoded.units_BUH)).squeeze(-1).masked_fill(~encoded.units_BU, -torch.inf)
    return found


def boxes(batch: Batch) -> Tensor:
    """(B, R, 4) x1 y1 x2 y2 as shares of width and height."""
    assert batch.regions is not None
    return batch.regions.boxes_BR7[..., :4]


def overlaps(batch: Batch) -> Tensor:
    """(B, R) of each region with the expression's box, targets["box"] (B, 4), shares as well. 0 for padding."""
    assert batch.regions is not None
    return overlap(boxes(batch), batch.targets["box"][:, None]) * batch.regions.mask_BR


def loss(model: Fusion, encoded: Encoded, head: nn.Linear, batch: Batch, settings: Settings) -> Scored:
    logits_BR, overlaps_BR = logits(encoded, head), overlaps(batch)
    most_B, best_B = overlaps_BR.max(dim=1)
    answers_B = torch.where(most_B >= LEAST, best_B, IGNORE)
    known = (answers_B != IGNORE).sum()
    value = F.cross_entropy(logits_BR, answers_B, reduction="sum") / known.clamp(min=1)
    fits_BR = overlaps_BR >= LEAST
    right = fits_BR.gather(1, logits_BR.argmax(dim=1, keepdim=True)).sum()
    regions_B = encoded.units_BU.sum(dim=1).clamp(min=1)
    by_guessing = float((fits_BR.sum(dim=1) / regions_B).mean())
    return Scored(value, torch.tensor(len(batch)), right, chance=by_guessing, over=known)
