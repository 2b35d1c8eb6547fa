"""What a learner can do: held-out loss of each objective, and image-text retrieval beside what chance would give."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from pairloom.loader.batch import Batch
from pairloom.loader.collate import collate
from pairloom.loader.make import Make
from pairloom.loader.order import row_rng
from pairloom.loader.prepare import held_out
from pairloom.loader.rows import Rows
from trainer.contract import Scored
from trainer.learner import Learner
from trainer.recipe import Part

CUTS = (1, 5, 10)
IMAGES_AT_ONCE = 64


@dataclass(frozen=True)
class Held:
    """One objective on rows that it was not trained on."""

    loss: float
    score: float | None  # share of right predictions; None where right and wrong mean nothing
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
def retrieval(learner: Learner, rows: Rows, make: Make, *, seed: int) -> dict[str, Any]:
    """Recall at 1, 5 and 10 and median rank, text to image and image to text, each with its chance level.

    Candidates are all images of the split, and all their captions, up to the recipe's retrieval.max_images.
    """
    settings = learner.recipe.retrieval
    assert settings is not None
    learner.eval()
    device = next(learner.parameters()).device
    images, texts, owner_N = _candidates(rows, make, settings.max_images, seed)
    texts = texts.to(device)
    blocks = torch.split(torch.arange(len(images)), IMAGES_AT_ONCE)
    scores_IN = torch.cat([learner.similarity(images.take(block).to(device), texts).cpu() for block in blocks])
    return {
        "objective": settings.objective,
        "images": len(images),
        "captions": len(owner_N),
        "text_to_image": text_to_image(scores_IN, owner_N),
        "image_to_text": image_to_text(scores_IN, owner_N),
    }


def _candidates(rows: Rows, make: Make, most_images: int, seed: int) -> tuple[Batch, Batch, Tensor]:
    """(one row an image, one row a caption, the image of each caption)."""
    examples = [
        make(make.pair(row), row_rng(seed, 0, row.image_id, row.caption_index)) for row in rows.all(most_images)
    ]
    batch = collate(examples, make.tokenizer.pad)
    owner_N = batch.image_number_B
    first_I = torch.tensor([owner_N.tolist().index(number) for number in range(int(owner_N.max()) + 1)])
    return batch.take(first_I), batch, owner_N


def text_to_image(scores_IN: Tensor, owner_N: Tensor) -> dict[str, float]:
    """Each caption looks for its image.

    scores: (I, N) float; owner: (N,) the image of each caption. A tie counts against the right one, so a learner that
    scores all alike finds nothing.
    """
    own_N = scores_IN.gather(0, owner_N[None])[0]
    rank_N = (scores_IN >= own_N).sum(dim=0)  # counts the right one itself, so the best rank is 1
    images = len(scores_IN)
    return _summary(rank_N, {cut: min(cut / images, 1.0) for cut in CUTS}, (images + 1) / 2)


def image_to_text(scores_IN: Tensor, owner_N: Tensor) -> dict[str, float]:
    """Each image looks for any of its captions; the best of them counts. Ties as in text_to_image."""
    own_IN = owner_N[None] == torch.arange(len(scores_IN))[:, None]
    best_I = scores_IN.masked_fill(~own_IN, -torch.inf).amax(dim=1)
    rank_I = ((scores_IN >= best_I[:, None]) & ~own_IN).sum(dim=1) + 1
    captions_I = own_IN.sum(dim=1).tolist()
    total = len(owner_N)
    chance = {cut: sum(chance_of_any(cut, own, total) for own in captions_I) / len(captions_I) for cut in CUTS}
    median = sum((total + 1) / (own + 1) for own in captions_I) / len(captions_I)  # mean rank of the best own caption
    return _summary(rank_I, chance, median)


def chance_of_any(cut: int, own: int, total: int) -> float:
    """Probability that the best `cut` of `total` captions in random order hold at least one of `mine`."""
    none = 1.0
    for drawn in range(min(cut, total)):
        none *= max(total - own - drawn, 0) / (total - drawn)
    return 1 - none


def _summary(ranks: Tensor, chance: dict[int, float], chance_rank: float) -> dict[str, float]:
    recall = {f"r_at_{cut}": (ranks <= cut).float().mean().item() for cut in CUTS}
    by_chance = {f"chance_r_at_{cut}": value for cut, value in chance.items()}
    return recall | by_chance | {"median_rank": ranks.float().median().item(), "chance_mean_rank": chance_rank}
