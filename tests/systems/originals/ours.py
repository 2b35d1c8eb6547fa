"""Our losses on the inputs that the originals had."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pairloom.loader.batch import IGNORE, Batch, RegionBatch, WordBatch
from trainer.contract import Encoded, Widths


@dataclass
class Model:
    """All that a head or a loss asks of a model: widths, and the tables that heads share."""

    widths: Widths
    word_weight: Any = None
    feature_weight: Any = None
    init_std: float = 0.02

    def __call__(self, batch: Batch) -> Encoded:
        raise AssertionError("what it encodes is drawn")


def word_batch(ids_BT: Tensor, seen_BT: Tensor, hidden_BT: Tensor | None = None) -> WordBatch:
    hidden_BT = torch.zeros_like(seen_BT) if hidden_BT is None else hidden_BT
    labels_BT = torch.where(hidden_BT, ids_BT, IGNORE)
    return WordBatch(ids_BT, seen_BT, torch.where(seen_BT, 1, -1), labels_BT, torch.zeros_like(ids_BT))


def region_batch(features_BRD: Tensor, seen_BR: Tensor, hidden_BR: Tensor, **columns: Tensor) -> RegionBatch:
    return RegionBatch(features_BRD, torch.zeros(*seen_BR.shape, 7), seen_BR, hidden_BR, **columns)


def batch_of(words: WordBatch, match_B: Tensor | None = None, **parts: Any) -> Batch:
    rows = len(words.input_ids_BT)
    numbers = torch.arange(rows)
    mismatch_B = torch.zeros(rows, dtype=torch.long) if match_B is None else (~match_B).long()
    ids = tuple(np.array([row, 0], "<i8").tobytes() for row in range(rows))
    return Batch(ids, numbers * 0, numbers, mismatch_B, words, **parts)


def encoded_of(given: dict[str, Tensor], seen_BR: Tensor) -> Encoded:
    return Encoded(given["words"], given["regions"], seen_BR, given["pooled"])
