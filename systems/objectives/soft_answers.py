"""Objective `soft_answers`: a question's answer among those told apart, each right by its score (tuning on VQA).

Each answer is a yes or no of its own, as in bottom-up attention's code for VQA v2, which LXMERT, UNITER, ViLBERT, Oscar
and ViLT fine-tune with. `qa` is pre-training's: one answer, and captions in between.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from pairloom.loader import questions
from pairloom.loader.batch import IGNORE, Batch, Example
from pairloom.loader.make import Make
from pairloom.loader.pair import Pair
from pairloom.loader.row import Row
from systems.objectives import qa
from trainer.contract import Encoded, Fusion, Scored, Shapes
from trainer.precision import as_float32

NUMBERED_BY = ("answers",)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """There are none: every row asks a random question about its image that has an answer, where there is one."""


def columns(settings: Settings) -> tuple[str, ...]:
    return ("qa",)


def head(settings: Settings, model: Fusion, shapes: Shapes) -> nn.Sequential:
    """As that of qa, so that its weights are taken over where the answers are the same."""
    return qa.head(qa.Settings(share=1.0), model, shapes)


def pair(pair: Pair, settings: Settings, rng: np.random.Generator) -> Pair:
    return questions.ask(pair, 1.0, rng, answered=True)


def prepare(example: Example, row: Row, make: Make, settings: Settings, rng: np.random.Generator) -> Example:
    """answer_ids, answer_scores: (K,) those that are told apart; answer_ids IGNORE where no question is asked."""
    told = questions.numbers(row.group.metadata["answers"])
    given = () if example.question is None else example.question.answers
    scored = [(told[text], score) for text, score in given if text in told]
    ids = np.array([number for number, _ in scored] or [-1 if given else IGNORE])  # −1: asked, but none is told apart
    return example.with_targets(answer_ids=ids, answer_scores=np.array([s for _, s in scored] or [0.0], np.float32))


def loss(model: Fusion, encoded: Encoded, head: nn.Sequential, batch: Batch, settings: Settings) -> Scored:
    """Binary cross-entropy, summed over answers and averaged over questions. Right: by the score of the best guess."""
    asked_B = batch.targets["answer_ids"][:, 0] != IGNORE
    logits_QA = as_float32(head(encoded.pooled_BH))[asked_B]
    scores_QA = spread(batch.targets["answer_ids"][asked_B], batch.targets["answer_scores"][asked_B], logits_QA)
    count = asked_B.sum()
    value = F.binary_cross_entropy_with_logits(logits_QA, scores_QA, reduction="sum") / count.clamp(min=1)
    if not len(logits_QA):
        return Scored(value, count, count, chance=0.0)
    right = scores_QA.gather(1, logits_QA.argmax(dim=1, keepdim=True)).sum()
    return Scored(value, count, right, chance=float(scores_QA.mean(dim=0).max()))


def spread(ids_QK: Tensor, scores_QK: Tensor, like_QA: Tensor) -> Tensor:
    """(Q, A) the score of each answer of each question, 0 for all that nobody gave."""
    there_QK = ids_QK >= 0
    scores_QK = scores_QK.to(like_QA.dtype) * there_QK
    return like_QA.new_zeros(like_QA.shape).scatter_reduce(1, ids_QK.clamp(min=0), scores_QK, "amax")
