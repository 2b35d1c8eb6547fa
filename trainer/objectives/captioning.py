"""Objective `captioning`: the whole caption, word by word, from the picture alone (E2E-VLP, arXiv:2106.01804)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from torch import nn

from trainer.batch import Batch, Example
from trainer.contract import Scored
from trainer.models.encoder_decoder import EncoderDecoder, Read
from trainer.objectives import prefix_lm
from trainer.objectives.prefix_lm import columns, head

if TYPE_CHECKING:
    from trainer.data import Make
    from trainer.rows import Row

__all__ = ["Settings", "columns", "head", "loss", "prepare"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """There is nothing to set."""


CAPTION = prefix_lm.Settings(longest=0.0)  # no word is given


def prepare(example: Example, row: Row, make: Make, settings: Settings, rng: np.random.Generator) -> Example:
    return prefix_lm.prepare(example, row, make, CAPTION, rng)


def loss(model: EncoderDecoder, encoded: Read, head: nn.Module, batch: Batch, settings: Settings) -> Scored:
    return prefix_lm.loss(model, encoded, head, batch, CAPTION)
