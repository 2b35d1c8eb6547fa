"""Objective `qa`: questions about the image, answered by telling the frequent answers apart (LXMERT)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from torch import Tensor, nn

from pairloom.errors import ConfigError
from pairloom.loader import questions
from pairloom.loader.batch import IGNORE, Batch, Example
from pairloom.loader.make import Make
from pairloom.loader.pair import Pair
from pairloom.loader.row import Row
from pairloom.typed import Range, check_ranges
from systems.layers import initialised
from trainer.contract import Encoded, Fusion, Scored, Shapes
from trainer.precision import as_float32

NUMBERED_BY = ("answers",)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """share: of the rows that ask a question instead of telling a caption, where their image has one.

    targets: `drawn` is one of the answers by their scores, `soft` all of them with their share of the scores.
    To be named before what replaces texts, such as itm: a question that is not the image's has no answer.
    """

    share: Annotated[float, Range(above=0, most=1)]
    targets: Literal["drawn", "soft"] = "drawn"

    def __post_init__(self) -> None:
        check_ranges(self)


def columns(settings: Settings) -> tuple[str, ...]:
    return ("qa",)


def head(settings: Settings, model: Fusion, shapes: Shapes) -> nn.Sequential:
    """LXMERT's: a layer of twice the width, GELU, norm, and the answers."""
    if not shapes.answers:
        raise ConfigError("the shards name no answers", "objective qa", "run the stages qa and shards, with shards.qa")
    width = model.widths.pooled
    layers = (nn.Linear(width, 2 * width), nn.GELU(), nn.LayerNorm(2 * width, eps=1e-12))
    return initialised(nn.Sequential(*layers, nn.Linear(2 * width, len(shapes.answers))), model.init_std)


def pair(pair: Pair, settings: Settings, rng: np.random.Generator) -> Pair:
    return questions.ask(pair, settings.share, rng)


def prepare(example: Example, row: Row, make: Make, settings: Settings, rng: np.random.Generator) -> Example:
    """The answers that are told apart, and their shares, which sum to 1. IGNORE and 0 where there is none."""
    scored: list[tuple[int, float]] = []
    if example.question is not None and not example.mismatch:
        known = questions.numbers(row.group.metadata["answers"])
        scored = [(known[text], score) for text, score in example.question.answers if text in known]
    shares = np.array([score for _, score in scored] or [0.0])
    shares /= max(shares.sum(), 1e-9)
    if settings.targets == "drawn" and len(scored) > 1:
        scored, shares = [scored[rng.choice(len(scored), p=shares)]], np.ones(1)
    ids = np.array([number for number, _ in scored] or [IGNORE])
    return example.with_targets(answer_ids=ids, answer_shares=shares.astype(np.float32))


def loss(model: Fusion, encoded: Encoded, head: nn.Sequential, batch: Batch, settings: Settings) -> Scored:
    logits_BA = head(encoded.pooled_BH)
    ids_BK = batch.targets["answer_ids"]
    asked_B, best_B = ids_BK[:, 0] != IGNORE, ids_BK[:, 0]  # the first is the best
    value = question_answering(logits_BA, ids_BK, batch.targets["answer_shares"])
    return Scored.of_classes(logits_BA[asked_B], best_B[asked_B], value)


def question_answering(logits_BA: Tensor, ids_BK: Tensor, shares_BK: Tensor) -> Tensor:
    """Cross-entropy of the answers' shares, mean over the rows that have any. Returns a scalar, 0 if none has.

    ids, shares: (B, K), the answers of each row and what each counts, summing to 1. IGNORE and 0 where a row has fewer.
    """
    log_BA = as_float32(logits_BA).log_softmax(dim=-1)
    error_B = -(shares_BK * log_BA.gather(1, ids_BK.clamp(min=0))).sum(dim=-1)
    return error_B.sum() / (ids_BK[:, 0] != IGNORE).sum().clamp(min=1)
