"""Objective `mrfr`: masked region feature regression, features hidden and predicted from the rest and the words."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pairloom.loader.batch import Batch, RegionBatch
from pairloom.loader.draws import Draws
from pairloom.loader.examples import Examples
from pairloom.loader.make import Make
from systems.layers import initialised, transform
from systems.objectives.masking import RegionMasking, hide_regions
from trainer.contract import Encoded, Fusion, Regional, Scored, Shapes
from trainer.precision import as_float32

Over = Literal["masked", "masked of all", "all"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """masking: null where another objective of the same step, named before, hides the regions.

    tied: the last layer is the one that reads features, backwards. over: see `mean_over`. matched_only: rows whose text
    is not the image's do not count.
    """

    masking: RegionMasking | None
    error: Literal["square", "smooth_l1"] = "square"
    tied: bool = False
    over: Over = "masked"
    matched_only: bool = False
    text: bool = True  # false: the image alone is seen (UNIMO)


class Head(nn.Module):
    """A layer, then one to a feature: a new one, or the layer that reads features used backwards, and a bias."""

    def __init__(self, model: Fusion, feature_width: int, tied: bool) -> None:
        super().__init__()
        self.transform = transform(model.widths.units, model.init_std)
        self.bias_D = nn.Parameter(torch.zeros(feature_width))
        fresh = initialised(nn.Linear(model.widths.units, feature_width, bias=False), model.init_std)
        self.predict = None if tied else fresh

    def forward(self, hidden_BRH: Tensor, model: Regional) -> Tensor:
        weight_DH = model.feature_weight.t() if self.predict is None else self.predict.weight
        return F.linear(self.transform(hidden_BRH), weight_DH, self.bias_D)


def head(settings: Settings, model: Fusion, shapes: Shapes) -> Head:
    assert shapes.feature_width is not None
    return Head(model, shapes.feature_width, settings.tied)


def resizes(settings: Settings) -> bool:
    """Of the image alone, no word is seen."""
    return not settings.text


def prepare_all(examples: Examples, make: Make, settings: Settings, draws: Draws) -> Examples:
    """Some of the regions hidden. Alone in its step, the words are all shown."""
    if not settings.text:
        examples = make.without_words(examples)
    return hide_regions(examples, settings.masking, draws)


def loss(model: Regional, encoded: Encoded, head: Head, batch: Batch, settings: Settings) -> Scored:
    regions = batch.regions
    assert regions is not None
    predicted_BRD = head(encoded.units_BUH, model)
    error_BR = feature_error(predicted_BRD, regions.features_BRD, settings.error)
    counted_BR = counted(batch, settings.matched_only)
    value = mean_over(error_BR, counted_BR, regions, settings.over)
    scored = Scored(value, counted_BR.sum(), over=divisor(counted_BR, regions, settings.over))
    if encoded.words_BTH.requires_grad:  # training. The score is only looked at in evaluation
        return scored
    found, answers = nearest_own(predicted_BRD[counted_BR], regions.features_BRD[counted_BR])
    return replace(scored, right=found, answers=answers)


def counted(batch: Batch, matched_only: bool) -> Tensor:
    """(B, R) bool, the regions to be predicted."""
    assert batch.regions is not None
    masked_BR = batch.regions.masked_BR
    return masked_BR & batch.match_B[:, None] if matched_only else masked_BR


def feature_error(predicted_BRD: Tensor, target_BRD: Tensor, error: Literal["square", "smooth_l1"]) -> Tensor:
    """(B, R) mean over D of the squared error (UNITER's code; its paper sums) or of the smooth L1 (LXMERT's code)."""
    measure = F.mse_loss if error == "square" else F.smooth_l1_loss
    return measure(as_float32(predicted_BRD), as_float32(target_BRD), reduction="none").mean(dim=-1)


def mean_over(error_BR: Tensor, counted_BR: Tensor, regions: RegionBatch, over: Over) -> Tensor:
    """Mean error of the counted regions. Returns a scalar, 0 if there is none to count.

    masked: Σ over the counted / their number. masked of all: Σ over the counted / number of all regions, and all:
    Σ over all / their number, as LXMERT's code does for features and for classes.
    """
    # `where` rather than indexing: a boolean index makes the GPU wait for the CPU.
    summed = torch.where(regions.mask_BR if over == "all" else counted_BR, error_BR, 0).sum()
    return summed / divisor(counted_BR, regions, over).clamp(min=1)


def divisor(counted_BR: Tensor, regions: RegionBatch, over: Over) -> Tensor:
    """How many regions the mean is over."""
    return (counted_BR if over == "masked" else regions.mask_BR).sum()


def nearest_own(predicted_MD: Tensor, target_MD: Tensor) -> tuple[Tensor, Tensor]:
    """(how many predictions are nearer to their own feature than to that of any other masked region, answers)."""
    answers_M = torch.arange(len(predicted_MD), device=predicted_MD.device)
    if not len(predicted_MD):
        return answers_M.sum(), answers_M
    distance_MM = torch.cdist(as_float32(predicted_MD), as_float32(target_MD))
    return (distance_MM.argmin(dim=1) == answers_M).sum(), answers_M
