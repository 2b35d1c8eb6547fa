"""Objective `polluted`: whether caption, tags and image belong together, or which text is another's (Oscar, VinVL)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from pairloom.errors import ConfigError
from pairloom.loader.batch import Batch
from pairloom.loader.pair import Pair, Question
from pairloom.loader.questions import another, ask
from pairloom.typed import Share, check_ranges
from systems.layers import initialised
from systems.objectives.itm import every_pair
from trainer.contract import Encoded, Fusion, Scored, Shapes
from trainer.precision import as_float32

SECOND, FIRST = 1, 2  # labels; 0: all belongs together
TRIES = 10  # to find another image whose text is not the same, as Oscar's code


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Shares of the rows whose second text (tags, answer) or first (caption, question) is another image's.

    second_from: the other image's second text, or in half of the cases its caption (Oscar's code; the paper: tags).
    questions: share of the rows that are a question and its answer, where their image has one. What is wrong with them
    is another image's answer or question. answer: the best one, or all of them, joined by spaces.
    """

    second: Share
    first: Share = 0.0
    second_from: Literal["second", "either"] = "second"
    questions: Share = 0.0
    answer: Literal["best", "all"] = "best"

    def __post_init__(self) -> None:
        check_ranges(self)
        if not 0 < self.second + self.first <= 1:
            given = f"polluted.second is {self.second}, first {self.first}"
            raise ConfigError(given, "the recipe", "set both together above 0 and at most 1")


def columns(settings: Settings) -> tuple[str, ...]:
    return ("tags", "qa") if settings.questions > 0 else ("tags",)


def head(settings: Settings, model: Fusion, shapes: Shapes) -> nn.Linear:
    """Two kinds, or three where the first text may be wrong too."""
    return initialised(nn.Linear(model.widths.pooled, 3 if settings.first > 0 else 2), model.init_std)


def pair(pair: Pair, settings: Settings, rng: np.random.Generator) -> Pair:
    """The pair as it is, or with another image's text; as it is too where no other image says anything else."""
    if settings.questions > 0:
        pair = ask(pair, settings.questions, rng, answered=True)
        if pair.question is not None:
            pair = replace(pair, second=answer(pair.question, settings))
    drawn = rng.random()
    if drawn < settings.second:
        either = settings.second_from == "either" and rng.random() < 0.5
        text = _another(pair, settings, rng, second=not either, unlike=pair.second or "")
        return pair if text is None else replace(pair, second=text, mismatch=SECOND)
    if drawn < settings.second + settings.first:
        text = _another(pair, settings, rng, second=False, unlike=pair.text)
        return pair if text is None else replace(pair, text=text, mismatch=FIRST)
    return pair


def answer(question: Question, settings: Settings) -> str:
    said = question.answers[:1] if settings.answer == "best" else question.answers
    return " ".join(text for text, _ in said)


def _another(pair: Pair, settings: Settings, rng: np.random.Generator, *, second: bool, unlike: str) -> str | None:
    """Another image's text of the same kind: caption or tags, question or answer. None where all say the same."""
    for _ in range(TRIES):
        if pair.question is None:
            other = pair.row.other(rng)
            text = None if other is None else other.tags() if second else other.text
        else:
            asked = another(pair.row, rng, answered=True)
            text = None if asked is None else answer(asked, settings) if second else asked.text
        if text is not None and text != unlike:
            return text
    return None


def loss(model: Fusion, encoded: Encoded, head: nn.Linear, batch: Batch, settings: Settings) -> Scored:
    logits_BK = as_float32(head(encoded.pooled_BH))
    return Scored.of_classes(logits_BK, batch.mismatch_B, F.cross_entropy(logits_BK, batch.mismatch_B))


def similarity(model: Fusion, head: nn.Linear, settings: Settings, images: Batch, texts: Batch) -> Tensor:
    """(I, N): log-probability that a caption, an image and the image's own tags belong together."""

    def score(pairs: Batch) -> Tensor:
        logits_PK = as_float32(head(model(pairs).pooled_BH))
        return logits_PK.log_softmax(dim=-1)[:, 0]

    return every_pair(model, images, texts, score)
