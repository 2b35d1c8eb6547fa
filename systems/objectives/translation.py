"""Objective `translation`: each caption finds its translation among the batch's (MURAL, arXiv:2109.05125)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from devices.ranks import several
from pairloom.loader.batch import IGNORE, Batch, Example, WordBatch
from pairloom.loader.make import Make
from pairloom.loader.row import Row
from systems.objectives.contrastive import Head, Settings, between, head, similarity
from trainer.contract import Embedded, Scored, Towers

__all__ = ["Settings", "head", "loss", "prepare", "similarity"]


def prepare(example: Example, row: Row, make: Make, settings: Settings, rng: np.random.Generator) -> Example:
    """A caption of the same image in another language, all equally likely. The caption itself where there is none."""
    texts = row.translations()
    words = make.tokenizer.words(texts[rng.integers(len(texts))]) if texts else example.words
    return example.with_targets(translation_ids=words.ids_T, translated=np.array(bool(texts)))


def loss(model: Towers, encoded: Embedded, head: Head, batch: Batch, settings: Settings) -> Scored:
    """InfoNCE of captions and translations. Rows without a translation take no part.

    On several ranks a row without one is its own translation instead, so that all ranks gather equally many rows.
    """
    texts_BE = model.texts(replace(batch, words=word_batch(batch.targets["translation_ids"])))
    if several():
        return between(encoded.texts_BE, texts_BE, head, batch, settings)
    rows = batch.targets["translated"].nonzero().squeeze(1)
    if not len(rows):
        return Scored(texts_BE.sum() * 0, torch.tensor(0), torch.tensor(0), rows)
    return between(encoded.texts_BE[rows], texts_BE[rows], head, batch.take(rows), settings)


def word_batch(ids_BT: torch.Tensor) -> WordBatch:
    """Token ids, padded with IGNORE, as words to be encoded."""
    seen_BT = ids_BT != IGNORE
    nothing_BT = torch.full_like(ids_BT, IGNORE)
    return WordBatch(
        input_ids_BT=ids_BT.clamp(min=0),
        attention_mask_BT=seen_BT,
        word_ids_BT=torch.full_like(ids_BT, -1),
        labels_BT=nothing_BT,
        segments_BT=torch.zeros_like(ids_BT),
    )
