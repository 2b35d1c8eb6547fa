"""Objective `cmcl`: an image tells true texts from rewritten and mined ones (UNIMO, arXiv:2012.15409, section 3.2)."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from schemas.errors import ConfigError
from trainer.batch import Batch, Example, map_tensors
from trainer.contract import Encoded, Fusion, Scored, Shapes
from trainer.layers import full, initialised
from trainer.objectives.itm import every_pair, negative_text

if TYPE_CHECKING:
    from trainer.data import Make
    from trainer.rows import Row


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How many texts each image is compared with, beside its own caption.

    positives: other captions of the same image, where the paper translates there and back; an image with one caption
    repeats it. mined: most similar captions of other images. rewritten: its own with one object, attribute or relation
    replaced by another; where there is none, a mined or random one.
    """

    positives: int
    mined: int
    rewritten: int
    temperature: float

    def __post_init__(self) -> None:
        if min(self.positives, self.mined, self.rewritten) < 0 or self.mined + self.rewritten == 0:
            raise ConfigError(
                f"cmcl has {self.mined} mined and {self.rewritten} rewritten texts", "the recipe", "give it negatives"
            )


RELATIONS = ("left of", "right of", "above", "below", "in front of", "behind", "under", "on top of", "inside", "beside")


def columns(settings: Settings) -> tuple[str, ...]:
    return ("negatives",)


def head(settings: Settings, model: Fusion, shapes: Shapes) -> nn.Linear:
    return initialised(nn.Linear(model.widths.pooled, 1), model.init_std)


def prepare(example: Example, row: Row, make: Make, settings: Settings, rng: np.random.Generator) -> Example:
    """The example with the texts that its image is compared with: positives first."""
    mine = [text for text in row.siblings() if text != row.text] or [row.text]
    texts = [mine[i] for i in rng.integers(0, len(mine), settings.positives)]
    words = vocabularies(row.group.metadata["classes"], row.group.metadata["attributes"])
    for number in range(settings.mined + settings.rewritten):
        text = rewritten(row.text, words, rng) if number >= settings.mined else None
        text = text or negative_text(row, 1.0, rng)
        texts.append("" if text is None else text)  # alone in its shard: nothing is said
    return replace(example, others=tuple(make.tokenizer.words(text) for text in texts))


@lru_cache
def vocabularies(classes: str, attributes: str) -> tuple[tuple[str, ...], ...]:
    """The names of each kind, of the JSON lists in a shard's metadata."""
    return tuple(json.loads(classes)), tuple(name for name in json.loads(attributes) if name != "none"), RELATIONS


def rewritten(text: str, words: Sequence[tuple[str, ...]], rng: np.random.Generator) -> str | None:
    """The text with one object, attribute or relation replaced by another of its kind; None if it names none.

    words: the vocabularies, one a kind. Longer names are found before shorter ones, in any case of letters.
    """
    found = [(match, kind) for kind in words for match in _pattern(kind).finditer(text)]
    if not found:
        return None
    match, kind = found[rng.integers(len(found))]
    others = [name for name in kind if name.lower() != match[1].lower()]
    if not others:
        return None
    return text[: match.start(1)] + others[rng.integers(len(others))] + text[match.end(1) :]


@lru_cache
def _pattern(names: tuple[str, ...]) -> re.Pattern[str]:
    longest_first = sorted(filter(None, names), key=len, reverse=True)
    return re.compile(rf"\b({'|'.join(map(re.escape, longest_first)) or '(?!)'})(?:e?s)?\b", re.IGNORECASE)


def loss(model: Fusion, encoded: Encoded, head: nn.Linear, batch: Batch, settings: Settings) -> Scored:
    """One more pass of the model over every other text with the row's image."""
    assert batch.others is not None
    count = batch.others.input_ids_BT.shape[1]
    rows = torch.arange(len(batch)).repeat_interleave(count)
    words = map_tensors(batch.others, lambda tensor: tensor.flatten(0, 1))
    others_B = head(model(replace(batch.take(rows), words=words)).pooled_BH).view(len(batch), count)
    scores_BK = torch.cat([head(encoded.pooled_BH), others_B], dim=1)
    positive = 1 + settings.positives
    right = (scores_BK.argmax(dim=1) < positive).sum()
    value = contrast(scores_BK, positive, settings.temperature)
    return Scored(value, torch.tensor(len(batch)), right, chance=positive / (1 + count))


def contrast(scores_BK: Tensor, positive: int, temperature: float) -> Tensor:
    """Mean of −log(Σ over the first `positive` of exp(score / τ) / Σ over all of them). Returns a scalar."""
    logits_BK = full(scores_BK) / temperature
    return (logits_BK.logsumexp(dim=1) - logits_BK[:, :positive].logsumexp(dim=1)).mean()


def similarity(model: Fusion, head: nn.Linear, settings: Settings, images: Batch, texts: Batch) -> Tensor:
    """(I, N): the score of every pair; each costs a pass through the model."""

    def score(pairs: Batch) -> Tensor:
        scored: Tensor = head(model(pairs).pooled_BH)[:, 0]
        return scored

    return every_pair(images, texts, score)
