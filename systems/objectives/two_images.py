"""Objective `two_images`: whether a sentence is true of two images (NLVR2), each read with the sentence.

A batch has two rows an example, left and right in turn. `evaluation.examples` makes them. The two pooled vectors go
through two layers side by side, as UNITER's `pair` setting (arXiv:1909.11740, section 4) and ViLT (section 4.3).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from pairloom.loader.batch import Batch
from systems.layers import initialised
from trainer.contract import Encoded, Fusion, Scored, Shapes


@dataclass(frozen=True, kw_only=True)
class Settings:
    """There are none."""


def head(settings: Settings, model: Fusion, shapes: Shapes) -> nn.Sequential:
    width = model.widths.pooled
    layers = (nn.Linear(2 * width, width), nn.GELU(), nn.LayerNorm(width, eps=1e-12), nn.Linear(width, 2))
    return initialised(nn.Sequential(*layers), model.init_std)


def logits(encoded: Encoded, head: nn.Module) -> Tensor:
    """(B / 2, 2), false and true."""
    found: Tensor = head(encoded.pooled_BH.unflatten(0, (-1, 2)).flatten(1))
    return found


def loss(model: Fusion, encoded: Encoded, head: nn.Sequential, batch: Batch, settings: Settings) -> Scored:
    """targets["true"]: (B,) int64 0 or 1, the same of both rows of an example."""
    return Scored.of_classes(logits(encoded, head), batch.targets["true"][::2])
