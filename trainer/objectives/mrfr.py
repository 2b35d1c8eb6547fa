"""Objective `mrfr`: masked region feature regression, features hidden and predicted from the rest and the words."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.batch import Batch, Example, Regions
from trainer.contract import Scored, Shapes
from trainer.layers import transform
from trainer.models.single_stream import SingleStream
from trainer.objectives.masking import mask_regions

if TYPE_CHECKING:
    from trainer.data import Make
    from trainer.rows import Row


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How many regions are hidden."""

    probability: float = 0.15


def columns(settings: Settings) -> tuple[str, ...]:
    return ()


class Head(nn.Module):
    """A layer, then the layer that reads features used backwards, and a bias."""

    def __init__(self, model: SingleStream, feature_width: int) -> None:
        super().__init__()
        self.transform = transform(model.hidden, model.init_std)
        self.bias_D = nn.Parameter(torch.zeros(feature_width))

    def forward(self, hidden_BRH: Tensor, region_weight_HD: Tensor) -> Tensor:
        return F.linear(self.transform(hidden_BRH), region_weight_HD.t(), self.bias_D)


def head(settings: Settings, model: SingleStream, shapes: Shapes) -> Head:
    assert shapes.feature_width is not None
    return Head(model, shapes.feature_width)


def prepare(row: Row, make: Make, settings: Settings, rng: np.random.Generator) -> Example:
    """The row with some of its regions hidden; its words are all shown."""
    example = make(row, rng)
    assert isinstance(example.units, Regions)
    return replace(example, units=mask_regions(example.units, settings.probability, rng))


def loss(model: SingleStream, head: Head, batch: Batch, settings: Settings) -> Scored:
    assert batch.regions is not None
    predicted_BRD = head(model(batch).regions_BRH, model.region_weight)
    masked_BR = batch.regions.masked_BR
    return Scored(masked_region_regression(predicted_BRD, batch.regions.features_BRD, masked_BR), masked_BR.sum())


def masked_region_regression(predicted_BRD: Tensor, target_BRD: Tensor, masked_BR: Tensor) -> Tensor:
    """Squared error of the features of masked regions (MRFR of UNITER, arXiv:1909.11740).

    predicted, target: (B, R, D) float; masked: (B, R) bool. Returns a scalar, 0 if nothing is masked.
    The paper sums over D; the authors' code takes the mean, and so do we.
    """
    error_BR = (predicted_BRD.float() - target_BRD.float()).square().mean(dim=-1)
    # `where` rather than indexing: a boolean index makes the GPU wait for the CPU.
    return torch.where(masked_BR, error_BR, 0).sum() / masked_BR.sum().clamp(min=1)
