"""Objective `prefix_lm`: the rest of a text after its beginning and the picture (SimVLM, arXiv:2108.10904)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from pairloom.loader.batch import IGNORE, Batch, Example
from pairloom.loader.make import Make
from pairloom.loader.row import Row
from pairloom.typed import Share, check_ranges
from systems.models.encoder_decoder import EncoderDecoder, Read
from trainer.contract import Scored, Shapes


@dataclass(frozen=True, kw_only=True)
class Settings:
    """longest: of the prefix, as a share of the text's tokens. Each row's own, from 0 up equally likely.

    text_only: share of the rows that are text alone: one of the loader's texts, or the caption where it has none.
    """

    longest: Share
    text_only: Share = 0.0

    def __post_init__(self) -> None:
        check_ranges(self)


def text_alone(settings: Settings) -> bool:
    return settings.text_only > 0


def head(settings: Settings, model: EncoderDecoder, shapes: Shapes) -> nn.Module:
    """None: the word embeddings are read backwards."""
    return nn.Identity()


def prepare(example: Example, row: Row, make: Make, settings: Settings, rng: np.random.Generator) -> Example:
    """Where the prefix ends, at least one token before the text does, and whether the picture is shown."""
    prefix, pictured = _prefix(example, settings, rng), rng.random() >= settings.text_only
    if not pictured and make.texts is not None:
        example = make.alone(example, rng)
        prefix = _prefix(example, settings, rng)
    return example.with_targets(prefix=np.array(prefix, np.int64), pictured=np.array(pictured))


def _prefix(example: Example, settings: Settings, rng: np.random.Generator) -> int:
    most = min(int(settings.longest * len(example.words.ids_T)), len(example.words.ids_T) - 1)
    return int(rng.integers(most + 1))


def loss(model: EncoderDecoder, encoded: Read, head: nn.Module, batch: Batch, settings: Settings) -> Scored:
    """The decoder begins with the prefix's last token, or the start, and sees no word before that."""
    ids_BT, prefix_B = batch.words.input_ids_BT, batch.targets["prefix"]
    hidden_BTH = model.spoken(encoded, ids_BT[:, :-1], (prefix_B - 1).clamp(min=0))
    labels_BT = rest(ids_BT, batch.words.attention_mask_BT, prefix_B)
    asked_BT = labels_BT != IGNORE
    return Scored.of_classes(model.logits(hidden_BTH[asked_BT]), labels_BT[asked_BT])


def rest(ids_BT: Tensor, seen_BT: Tensor, prefix_B: Tensor) -> Tensor:
    """(B, T − 1) at each place the token that follows, if it lies behind the prefix, else IGNORE."""
    place_T = torch.arange(1, ids_BT.shape[1], device=ids_BT.device)
    behind_BT = seen_BT[:, 1:] & (place_T >= prefix_B[:, None])
    return torch.where(behind_BT, ids_BT[:, 1:], IGNORE)
