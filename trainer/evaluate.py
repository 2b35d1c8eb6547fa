"""What a learner can do: held-out loss of each objective, and image-text retrieval beside what chance would give."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from pairloom.loader.batch import Batch
from pairloom.loader.make import Make
from pairloom.loader.prepare import held_out
from pairloom.loader.rows import Rows
from pairloom.metrics.retrieval import both_ways
from trainer.contract import Scored
from trainer.learner import Learner
from trainer.recipe import Part

IMAGES_AT_ONCE = 64
HELD_OUT_ROWS = 512


@dataclass(frozen=True)
class Held:
    """One objective on rows that it was not trained on."""

    loss: float
    score: float | None  # share of right predictions. None where right and wrong mean nothing
    chance: float | None  # that of the best constant guess, which knows how often each answer comes
    predictions: int
    rows: int


@dataclass
class Tally:
    """What is added up of one objective over batches."""

    loss: float = 0.0
    right: float = 0.0
    count: float = 0.0
    rows: int = 0
    known: bool = True  # whether there is right and wrong
    answers: Counter[int] = field(default_factory=Counter)
    by_chance: float = 0.0

    def add(self, scored: Scored, rows: int) -> None:
        count = float(scored.count)
        self.loss += float(scored.loss) * count
        self.count += count
        self.rows += rows
        if scored.right is None or (scored.answers is None and scored.chance is None):
            self.known = False
            return
        self.right += float(scored.right)
        if scored.chance is not None:
            self.by_chance += scored.chance * count
        elif scored.answers is not None:
            self.answers.update(scored.answers.flatten().tolist())

    def held(self) -> Held:
        count, most = max(self.count, 1), max(self.answers.values(), default=self.by_chance)
        score, chance = (self.right / count, most / count) if self.known else (None, None)
        return Held(self.loss / count, score, chance, int(self.count), self.rows)


Tested = tuple[dict[str, Held], dict[str, Any] | None]  # of each objective, and of retrieval


@dataclass(frozen=True)
class Exam:
    """Tests a learner on the val split: the same rows, masks and negatives every time."""

    rows: Rows
    make: Make
    seed: int

    def losses(self, learner: Learner) -> dict[str, Held]:
        size = min(learner.recipe.training.batch_size, 256)
        found: dict[str, Held] = {}
        for kind in learner.kinds.values():
            found |= held_out_losses(
                learner, self.rows, self.make, kind, seed=self.seed, batch_size=size, most_rows=HELD_OUT_ROWS
            )
        return found

    def __call__(self, learner: Learner) -> Tested:
        held = self.losses(learner)
        return held, None if learner.recipe.retrieval is None else retrieval(learner, self.rows, self.make)


@torch.no_grad()
def held_out_losses(
    learner: Learner, rows: Rows, make: Make, kind: Mapping[str, Part], *, seed: int, batch_size: int, most_rows: int
) -> dict[str, Held]:
    """Of each objective of a step: what it says of the first most_rows rows of the split."""
    learner.eval()
    device = next(learner.parameters()).device
    tallies: dict[str, Tally] = defaultdict(Tally)
    for batch in held_out(rows, make, kind, seed=seed, batch_size=batch_size, most_rows=most_rows):
        for name, scored in learner.losses(kind, batch.to(device)).parts.items():
            tallies[name].add(scored, len(batch))
    return {name: tally.held() for name, tally in tallies.items()}


@torch.no_grad()
def retrieval(learner: Learner, rows: Rows, make: Make) -> dict[str, Any]:
    """Recall at 1, 5 and 10 and median rank, text to image and image to text, each with its chance level.

    Candidates are all images of the split, and all their captions, up to the recipe's retrieval.max_images.
    """
    settings = learner.recipe.retrieval
    assert settings is not None
    learner.eval()
    device = next(learner.parameters()).device
    images, texts, owner_N = _candidates(rows, make, settings.max_images)
    texts = texts.to(device)
    blocks = torch.split(torch.arange(len(images)), IMAGES_AT_ONCE)
    scores_IN = torch.cat([learner.similarity(images.take(block).to(device), texts).cpu() for block in blocks])
    return {
        "objective": settings.objective,
        "images": len(images),
        "captions": len(owner_N),
        **both_ways(scores_IN, owner_N),
    }


def _candidates(rows: Rows, make: Make, most_images: int) -> tuple[Batch, Batch, Tensor]:
    """(one row an image, one row a caption, the image of each caption)."""
    batch = make.collate(make([make.pair(row) for row in rows.all(most_images)]))
    owner_N = batch.image_number_B
    first_I = torch.tensor([owner_N.tolist().index(number) for number in range(int(owner_N.max()) + 1)])
    return batch.take(first_I), batch, owner_N
