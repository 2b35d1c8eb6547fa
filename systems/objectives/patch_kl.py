"""Objective `patch_kl`: crops hidden or without colour, whose features are predicted as distributions.

FashionBERT's masked patches (arXiv:2005.09801), Kaleido-BERT's blank-to-colour and grey-to-colour (arXiv:2103.16110,
section 3.6). As in the authors' code, a feature is a distribution over its own numbers by softmax, no class behind it.
K crops drawn in an image, M in the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
import torch
from torch import Tensor, nn

from pairloom.errors import ConfigError
from pairloom.loader.batch import HIDDEN, ITSELF, Batch
from pairloom.loader.draws import Draws
from pairloom.loader.examples import Examples, RegionColumns, spans
from pairloom.loader.make import Make
from pairloom.loader.stored import Stored
from pairloom.table import Array
from pairloom.typed import Positive, Range, check_ranges
from systems.layers import initialised
from systems.objectives.placing import preferred, wishes_of
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


def prepare_all(examples: Examples, make: Make, settings: Settings, draws: Draws) -> Examples:
    """Crops drawn, and what is seen of them changed."""
    regions, first = examples.regions(), settings.first
    wished = zip(wishes_of(examples), draws.rngs, strict=True)
    places = [first + preferred(wishes, first, settings.last, settings.count, rng) for wishes, rng in wished]
    features = [np.asarray(one)[places_K] for one, places_K in zip(regions.features, places, strict=True)]
    targets = {f"{settings.shown}_places": places, f"{settings.shown}_features": features}
    shown = _blank(regions, places) if settings.shown == "blank" else _grey(regions, places, first)
    return replace(examples, units=shown).with_targets(**targets)


def _blank(regions: RegionColumns, places: Sequence[Array]) -> RegionColumns:
    before = regions.columns.get("shown_R")
    shown_R = np.full(sum(regions.counts), ITSELF) if before is None else before.copy()
    starts = (start for start, _ in spans(regions.counts))
    shown_R[np.concatenate([start + places_K for start, places_K in zip(starts, places, strict=True)])] = HIDDEN
    return replace(regions, columns={**regions.columns, "shown_R": shown_R})


def _grey(regions: RegionColumns, places: Sequence[Array], first: int) -> RegionColumns:
    rows = zip(regions.features, regions.variants, places, strict=True)
    features = [showing(one, places_K, variants["grey"][places_K - first]) for one, variants, places_K in rows]
    return replace(regions, features=[*features])


def showing(features_RD: Array | Stored, places: Array | slice | int, shown: Array) -> Array:
    """The features with others in these places. They are copied the first time: what comes of a shard is read-only."""
    changed_RD: Array = np.asarray(features_RD)
    changed_RD = changed_RD if changed_RD.flags.writeable else changed_RD.copy()
    changed_RD[places] = shown
    return changed_RD


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
