"""Objective `mrc`: masked region classification, the detector's opinion of hidden regions predicted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.batch import Batch, Example, Regions
from trainer.contract import Scored, Shapes
from trainer.layers import initialised, transform
from trainer.models.single_stream import SingleStream
from trainer.objectives.masking import mask_regions

if TYPE_CHECKING:
    from trainer.data import Make
    from trainer.rows import Row


@dataclass(frozen=True, kw_only=True)
class Settings:
    """targets: `hard` is the detector's best class, `kl` its whole distribution (of which shards keep the top k)."""

    targets: Literal["hard", "kl"]
    probability: float = 0.15


def columns(settings: Settings) -> tuple[str, ...]:
    return ("class_ids",) if settings.targets == "hard" else ("prob_ids", "prob_values")


def head(settings: Settings, model: SingleStream, shapes: Shapes) -> nn.Sequential:
    assert shapes.num_classes is not None
    classifier = initialised(nn.Linear(model.hidden, shapes.num_classes), model.init_std)
    return nn.Sequential(transform(model.hidden, model.init_std), classifier)


def prepare(row: Row, make: Make, settings: Settings, rng: np.random.Generator) -> Example:
    """The row with some of its regions hidden; its words are all shown."""
    example = make(row, rng)
    assert isinstance(example.units, Regions)
    return replace(example, units=mask_regions(example.units, settings.probability, rng))


def loss(model: SingleStream, head: nn.Sequential, batch: Batch, settings: Settings) -> Scored:
    regions = batch.regions
    assert regions is not None
    logits_BRC = head(model(batch).regions_BRH)
    if settings.targets == "hard":
        assert regions.class_ids_BR is not None
        best_BR = regions.class_ids_BR
        value = masked_region_classes(logits_BRC, best_BR, regions.masked_BR)
    else:
        assert regions.prob_ids_BRK is not None
        assert regions.prob_values_BRK is not None
        best_BR = regions.prob_ids_BRK[..., 0]
        value = masked_region_kl(logits_BRC, regions.prob_ids_BRK, regions.prob_values_BRK, regions.masked_BR)
    right = (regions.masked_BR & (logits_BRC.argmax(dim=-1) == best_BR)).sum()
    return Scored(value, regions.masked_BR.sum(), right)


def masked_region_classes(logits_BRC: Tensor, class_ids_BR: Tensor, masked_BR: Tensor) -> Tensor:
    """Mean cross-entropy of the classes of masked regions (MRC of UNITER). Returns a scalar, 0 if nothing is masked."""
    entropy_BR = F.cross_entropy(logits_BRC.float().movedim(-1, 1), class_ids_BR, reduction="none")
    return torch.where(masked_BR, entropy_BR, 0).sum() / masked_BR.sum().clamp(min=1)


def masked_region_kl(logits_BRC: Tensor, ids_BRK: Tensor, values_BRK: Tensor, masked_BR: Tensor) -> Tensor:
    """Mean KL(detector ‖ prediction) of masked regions, in nats (MRC-kl of UNITER). A scalar, 0 if nothing is masked.

    The detector's distribution is given by its K most probable classes; what they leave of 1 is spread evenly over the
    other C − K. The paper sums over the classes, and so do we; the authors' code takes the mean, 1/C of it.
    """
    log_BRC = logits_BRC.float().log_softmax(dim=-1)
    others = log_BRC.shape[-1] - ids_BRK.shape[-1]
    rest_BR = (1 - values_BRK.sum(dim=-1)).clamp(min=0) / max(others, 1)
    # Σ p log q = Σ_top (p − rest) log q + rest · Σ_all log q, so the C − K others need no mask
    cross_BR = ((values_BRK - rest_BR[..., None]) * log_BRC.gather(-1, ids_BRK)).sum(dim=-1)
    cross_BR = cross_BR + rest_BR * log_BRC.sum(dim=-1)
    own_BR = torch.xlogy(values_BRK, values_BRK).sum(dim=-1) + others * torch.xlogy(rest_BR, rest_BR)
    return torch.where(masked_BR, own_BR - cross_BR, 0).sum() / masked_BR.sum().clamp(min=1)
