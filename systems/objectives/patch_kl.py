"""Objective `patch_kl`: crops hidden or without colour, whose features are predicted as distributions.

FashionBERT's masked patches (arXiv:2005.09801), Kaleido-BERT's blank-to-colour and grey-to-colour (arXiv:2103.16110,
section 3.6). As in the authors' code, a feature is a distribution over its own numbers by softmax, no class behind it.
K crops drawn in an image, M in the batch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
import torch
from torch import Tensor, nn

from pairloom.errors import ConfigError
from pairloom.loader.batch import HIDDEN, ITSELF, Batch, Example, Regions
from pairloom.loader.make import Make
from pairloom.loader.row import Row
from pairloom.table import Array
from pairloom.typed import Positive, Range, check_ranges
from systems.layers import initialised
from systems.objectives.placing import preferred
from systems.units.patches import Pyramid
from trainer.contract import Encoded, Fusion, Scored, Shapes
from trainer.precision import as_float32


@dataclass(frozen=True, kw_only=True)
class Settings:
    """count: crops drawn of each image, all of them different, among those from `first` to before `last`.

    shown: `blank`, zeros, or `grey`, the feature of the crop without colour (of a pyramid's fourth level).
    """

    count: Positive
    first: Annotated[int, Range(0)]
    last: int
    shown: Literal["blank", "grey"] = "blank"

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.count > self.last - self.first:
            raise ConfigError(
                f"patch_kl draws {self.count} of the crops {self.first} to {self.last}",
                where="the recipe",
                fix="set count to at most as many as there are",
            )


def head(settings: Settings, model: Fusion, shapes: Shapes) -> nn.Linear:
    assert shapes.feature_width is not None
    return initialised(nn.Linear(model.widths.units, shapes.feature_width, bias=False), model.init_std)


def prepare(example: Example, row: Row, make: Make, settings: Settings, rng: np.random.Generator) -> Example:
    """Crops drawn, and what is seen of them changed."""
    units = example.units
    assert isinstance(units, Regions)
    places_K = settings.first + preferred(example, settings.first, settings.last, settings.count, rng)
    features_RD = np.asarray(units.features_RD)
    targets = {f"{settings.shown}_places": places_K, f"{settings.shown}_features": features_RD[places_K]}
    example = example.with_targets(**targets)
    if settings.shown == "blank":
        shown_R = np.full(len(features_RD), ITSELF) if units.shown_R is None else units.shown_R.copy()
        shown_R[places_K] = HIDDEN
        return replace(example, units=replace(units, shown_R=shown_R))
    assert isinstance(units, Pyramid)
    assert units.grey_16D is not None
    return replace(example, units=showing(units, places_K, units.grey_16D[places_K - settings.first]))


def showing(units: Regions, places_K: Array, features_KD: Array) -> Regions:
    """The same crops, some of them with other features."""
    features_RD = np.array(units.features_RD)
    features_RD[places_K] = features_KD
    return replace(units, features_RD=features_RD)


def loss(model: Fusion, encoded: Encoded, head: nn.Linear, batch: Batch, settings: Settings) -> Scored:
    """Mean over the drawn crops. Right is a prediction that is nearer to its own feature than to others."""
    places_BK = batch.targets[f"{settings.shown}_places"]
    hidden_BKH = encoded.units_BUH.gather(1, places_BK[..., None].expand(-1, -1, encoded.units_BUH.shape[-1]))
    predicted_MD = head(hidden_BKH.flatten(0, 1))
    target_MD = batch.targets[f"{settings.shown}_features"].flatten(0, 1)
    value, count = feature_kl(predicted_MD, target_MD).mean(), torch.tensor(len(target_MD))
    if encoded.words_BTH.requires_grad:  # training. The score is only looked at in evaluation
        return Scored(value, count)
    answers_M = torch.arange(len(target_MD), device=target_MD.device)
    found_M = divergences(predicted_MD, target_MD).argmin(dim=1)
    return Scored(value, count, (found_M == answers_M).sum(), answers_M)


def feature_kl(predicted_MD: Tensor, target_MD: Tensor) -> Tensor:
    """(M,) KL(softmax(target) ‖ softmax(predicted)) in nats, summed over D."""
    log_p, log_q = as_float32(target_MD).log_softmax(dim=-1), as_float32(predicted_MD).log_softmax(dim=-1)
    return (log_p.exp() * (log_p - log_q)).sum(dim=-1)


def divergences(predicted_MD: Tensor, target_MD: Tensor) -> Tensor:
    """(M, M) the same of every prediction (row) and every target (column)."""
    log_p, log_q = as_float32(target_MD).log_softmax(dim=-1), as_float32(predicted_MD).log_softmax(dim=-1)
    return (log_p.exp() * log_p).sum(dim=-1)[None, :] - log_q @ log_p.exp().t()
