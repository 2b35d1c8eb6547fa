"""Tests of fine-tuned heads: VQA, NLVR2 and RefCOCO, each over every example of its split with the papers' figures."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from evaluation.examples import Example, batch_of
from evaluation.gallery import Gallery
from evaluation.scoring import Advance, nothing
from pairloom.errors import ConfigError, InputError
from pairloom.loader.batch import Batch
from pairloom.metrics import boxes
from pairloom.metrics.nlvr2 import accuracy_and_consistency
from systems.objectives import grounding, qa, soft_answers, two_images
from trainer.contract import Encoded
from trainer.learner import Learner

EXAMPLES = 32  # of a batch


def head_of(learner: Learner, *modules: object) -> str:
    """The name of the objective that is one of these modules. Raises ConfigError if the checkpoint has none."""
    for module in modules:
        for name, part in learner.recipe.objectives.items():
            if part.module is module:
                return name
    wanted = str(getattr(modules[0], "__name__", "")).rpartition(".")[2]
    raise ConfigError(
        f"the checkpoint has no head `{wanted}`",
        f"recipe {learner.recipe.name}",
        "take what `pairloom finetune` wrote for this task",
    )


@torch.no_grad()
def _encoded(
    learner: Learner, gallery: Gallery, examples: Sequence[Example], advance: Advance
) -> Iterator[tuple[Encoded, Batch]]:
    """Of the examples in their order, batch by batch, on the learner's device."""
    device = next(learner.parameters()).device
    learner.eval()
    for first in range(0, len(examples), EXAMPLES):
        block = examples[first : first + EXAMPLES]
        batch = batch_of(gallery, block, 0, None).to(device)
        yield learner.model(batch), batch
        advance(len(block))


@torch.no_grad()
def vqa(learner: Learner, gallery: Gallery, examples: Sequence[Example], advance: Advance = nothing) -> dict[str, Any]:
    """Soft accuracy of VQA v2: the mean score of the answer that the head thinks most likely.

    The shards' scores of ten people's answers are 0.3, 0.6, 0.9 and 1 for one, two, three and more who agree: what
    leaving out each of the ten in turn gives. possible: what the best of the answers that are told apart would get.
    chance: what the best one answer to every question gets.
    """
    if not examples:
        raise InputError("no question of the split has an answer", "column qa of the shards", "take another --split")
    head, told = learner.heads[head_of(learner, soft_answers, qa)], learner.shapes.answers
    numbers = [
        number
        for encoded, _ in _encoded(learner, gallery, examples, advance)
        for number in head(encoded.pooled_BH).argmax(dim=1).tolist()
    ]
    given = [dict(example.answers) for example in examples]
    known, total = set(told), len(examples)
    always: dict[str, float] = defaultdict(float)
    for scores in given:
        for answer in scores.keys() & known:
            always[answer] += scores[answer]
    best = [max((score for answer, score in scores.items() if answer in known), default=0.0) for scores in given]
    return {
        "questions": total,
        "accuracy": sum(scores.get(told[n], 0.0) for scores, n in zip(given, numbers, strict=True)) / total,
        "chance": max(always.values(), default=0.0) / total,
        "possible": sum(best) / total,
    }


@torch.no_grad()
def nlvr2(
    learner: Learner, gallery: Gallery, examples: Sequence[Example], advance: Advance = nothing
) -> dict[str, Any]:
    """Accuracy and consistency; chance: of the commoner label."""
    head = learner.heads[head_of(learner, two_images)]
    right: list[bool] = []
    for encoded, batch in _encoded(learner, gallery, examples, advance):
        said_E = two_images.logits(encoded, head).argmax(dim=1)
        right += (said_E == batch.targets["true"][::2]).tolist()
    true = sum(int(example.targets["true"]) for example in examples) / len(examples)
    found = accuracy_and_consistency(right, [example.name for example in examples])
    return {"examples": len(examples), **found, "chance": max(true, 1 - true)}


@torch.no_grad()
def refcoco(
    learner: Learner, gallery: Gallery, examples: Sequence[Example], advance: Advance = nothing
) -> dict[str, Any]:
    """Share of expressions whose chosen region overlaps their box by half.

    chance: of any region; possible: the share of expressions for which some region does.
    """
    head = learner.heads[head_of(learner, grounding)]
    chosen, wanted, fitting, some = [], [], [], []
    for encoded, batch in _encoded(learner, gallery, examples, advance):
        best_B: Tensor = grounding.logits(encoded, head).argmax(dim=1)
        chosen.append(grounding.boxes(batch)[torch.arange(len(best_B)), best_B].cpu())
        wanted.append(batch.targets["box"].cpu())
        fits_BR = grounding.overlaps(batch) >= boxes.LEAST
        fitting.append((fits_BR.sum(dim=1) / encoded.units_BU.sum(dim=1).clamp(min=1)).cpu())
        some.append(fits_BR.any(dim=1).cpu())
    return {
        "expressions": len(examples),
        "accuracy": boxes.accuracy(torch.cat(chosen), torch.cat(wanted)),
        "chance": torch.cat(fitting).mean().item(),
        "possible": torch.cat(some).float().mean().item(),
    }
