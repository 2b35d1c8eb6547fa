"""Objective `mrc`: masked region classification, the detector's opinion of hidden regions predicted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pairloom.errors import ConfigError
from pairloom.loader.batch import Batch, RegionBatch
from pairloom.loader.draws import Draws
from pairloom.loader.examples import Examples
from pairloom.loader.make import Make
from systems.layers import initialised, transform
from systems.objectives.masking import RegionMasking, hide_regions
from systems.objectives.mrfr import Over, counted, divisor, mean_over
from trainer.contract import Encoded, Fusion, Scored, Shapes
from trainer.precision import as_float32


@dataclass(frozen=True, kw_only=True)
class Settings:
    """masking: null where another objective of the same step, named before, hides the regions.

    targets: `hard` is the detector's best class, `kl` its whole distribution (of which shards keep the top k).
    of: the class, or the attribute, of which shards keep the best alone. confidence: each error times the detector's
    confidence. over: see mrfr.mean_over. matched_only: rows whose text is not the image's do not count.
    """

    masking: RegionMasking | None
    targets: Literal["hard", "kl"]
    of: Literal["class", "attribute"] = "class"
    confidence: bool = False
    over: Over = "masked"
    matched_only: bool = False
    text: bool = True  # false: the image alone is seen (UNIMO)

    def __post_init__(self) -> None:
        if self.of == "attribute" and self.targets == "kl":
            raise ConfigError(
                "attributes have no kl", "objective mrc", "set targets to hard: shards keep one attribute"
            )


def columns(settings: Settings) -> tuple[str, ...]:
    scores = (f"{settings.of}_scores",) if settings.confidence else ()
    return (*scores, f"{settings.of}_ids") if settings.targets == "hard" else (*scores, "prob_ids", "prob_values")


def head(settings: Settings, model: Fusion, shapes: Shapes) -> nn.Sequential:
    names = shapes.num_classes if settings.of == "class" else shapes.num_attributes
    assert names is not None
    classifier = initialised(nn.Linear(model.widths.units, names), model.init_std)
    return nn.Sequential(transform(model.widths.units, model.init_std), classifier)


def resizes(settings: Settings) -> bool:
    """Of the image alone, no word is seen."""
    return not settings.text


def prepare_all(examples: Examples, make: Make, settings: Settings, draws: Draws) -> Examples:
    """Some of the regions hidden. Alone in its step, the words are all shown."""
    if not settings.text:
        examples = make.without_words(examples)
    return hide_regions(examples, settings.masking, draws)


def loss(model: Fusion, encoded: Encoded, head: nn.Sequential, batch: Batch, settings: Settings) -> Scored:
    regions = batch.regions
    assert regions is not None
    logits_BRC = head(encoded.units_BUH)
    if settings.targets == "hard":
        best_BR = _column(regions, settings, "ids")
        error_BR = F.cross_entropy(as_float32(logits_BRC).movedim(-1, 1), best_BR, reduction="none")
    else:
        assert regions.prob_ids_BRK is not None
        assert regions.prob_values_BRK is not None
        best_BR = regions.prob_ids_BRK[..., 0]
        error_BR = region_kl(logits_BRC, regions.prob_ids_BRK, regions.prob_values_BRK)
    if settings.confidence:
        error_BR = error_BR * _column(regions, settings, "scores")
    counted_BR = counted(batch, settings.matched_only)
    value = mean_over(error_BR, counted_BR, regions, settings.over)
    scored = Scored.of_classes(logits_BRC[counted_BR], best_BR[counted_BR], value)
    return replace(scored, over=divisor(counted_BR, regions, settings.over))


def _column(regions: RegionBatch, settings: Settings, kind: str) -> Tensor:
    column: Tensor = getattr(regions, f"{settings.of}_{kind}_BR")
    return column


def region_kl(logits_BRC: Tensor, ids_BRK: Tensor, values_BRK: Tensor) -> Tensor:
    """(B, R) KL(detector ‖ prediction) in nats (MRC-kl of UNITER).

    The detector's distribution is given by its K most probable classes. What they leave of 1 is spread evenly over the
    other C − K. The paper sums over the classes, and so do we. The authors' code takes the mean, 1/C of it.
    """
    log_BRC = as_float32(logits_BRC).log_softmax(dim=-1)
    others = log_BRC.shape[-1] - ids_BRK.shape[-1]
    rest_BR = (1 - values_BRK.sum(dim=-1)).clamp(min=0) / max(others, 1)
    # Σ p log q = Σ_top (p − rest) log q + rest · Σ_all log q, so the C − K others need no mask
    cross_BR = ((values_BRK - rest_BR[..., None]) * log_BRC.gather(-1, ids_BRK)).sum(dim=-1)
    cross_BR = cross_BR + rest_BR * log_BRC.sum(dim=-1)
    own_BR = torch.xlogy(values_BRK, values_BRK).sum(dim=-1) + others * torch.xlogy(rest_BR, rest_BR)
    return own_BR - cross_BR
