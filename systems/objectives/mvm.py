"""Objective `mvm`: masked visual modelling, the dictionary's number of hidden cells (SOHO, arXiv:2104.03135)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from pairloom.loader.batch import Batch, Example
from pairloom.loader.make import Make
from pairloom.loader.row import Row
from pairloom.typed import Share, check_ranges
from systems.models.grid_stream import Coded, GridStream
from trainer.contract import Scored, Shapes


@dataclass(frozen=True, kw_only=True)
class Settings:
    """probability: that a row has cells hidden. scale: of the cosines before the softmax. The code has 1."""

    probability: Share
    scale: float = 1.0

    def __post_init__(self) -> None:
        check_ranges(self)


def head(settings: Settings, model: GridStream, shapes: Shapes) -> nn.Module:
    """None: the entries themselves are what is compared with."""
    return nn.Identity()


def prepare(example: Example, row: Row, make: Make, settings: Settings, rng: np.random.Generator) -> Example:
    """A place of the picture, whose code is hidden wherever it stands; −1 for none.

    The code draws one place a batch and then rows. Here each row has its own place, as rows are prepared apart.
    """
    place = np.float32(rng.random() if rng.random() < settings.probability else -1)
    return example.with_targets(hidden_place=np.array(place))


def loss(model: GridStream, encoded: Coded, head: nn.Module, batch: Batch, settings: Settings) -> Scored:
    assert model.dictionary is not None, "mvm needs model.grid_stream.dictionary"
    assert encoded.codes_BU is not None
    assert encoded.hidden_BU is not None
    codes_M = encoded.codes_BU[encoded.hidden_BU]
    logits_MN = settings.scale * cosines(encoded.units_BUH[encoded.hidden_BU], model.dictionary.entries_NH)
    return Scored.of_classes(logits_MN, codes_M)


def cosines(hidden_MH: Tensor, entries_NH: Tensor) -> Tensor:
    """(M, N), in float32."""
    return F.normalize(hidden_MH.float(), dim=-1) @ F.normalize(entries_NH.float(), dim=-1).t()
