"""Do mined negatives teach matching more than random ones? InterBERT's image-text matching, on one budget, by seeds.

python -m benchmarks.negatives_ab [--shards data/shards] [--shares 0 0.2] [--seeds 0 1 2] [--steps 800]

For each share of mined negatives (`itm.hard_share`; the others are random, 0.2 is the paper's) and each seed the recipe
trains at size tiny, with the same steps, batches and weights at the start. Then each held-out image has its caption
among ten hard candidates, those of the caption's mined negatives that are most similar, and among ten random captions
of other images. --asked names the shards whose held-out rows these are, so that trainings on several folders, such as
negatives with and without a veto, have the same questions. `first`: the right one has the highest score, by chance
9.1 %, ties count against it. `won`: share of the ten that it beats, by chance 50 %. Candidates come from all splits, so
most of them were trained on.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from pairloom.loader import Loader
from pairloom.loader import tokenizer as tokenizers
from pairloom.loader.batch import Batch
from pairloom.loader.make import Make
from pairloom.loader.order import row_rng
from pairloom.loader.row import Row
from pairloom.loader.rows import Rows, open_rows
from pairloom.loader.tokenizer import Tokenizer
from systems import recipes
from trainer import optimise
from trainer.learner import Learner, shapes_of
from trainer.precision import Arithmetic
from trainer.recipe import Recipe

CANDIDATES = 10
NAMES = ("hard: first", "hard: won", "random: first", "random: won")


@dataclass(frozen=True)
class Question:
    """One image with its caption and the captions that it is not: the right text comes first in each batch."""

    hard: Batch
    random: Batch


def variant(share: float, steps: int | None) -> Recipe:
    training = {} if steps is None else {"steps": steps}
    return recipes.load("interbert", "tiny", {"objectives": {"itm": {"hard_share": share}}, "training": training})


def questions(val: Rows, others: Sequence[str], make: Make) -> Iterator[Question]:
    """Of every held-out caption that has ten mined negatives; others: captions to draw from."""
    for row in val.all():
        mine, rng = set(row.siblings()), row_rng(0, 0, row.image_id, row.caption_index)
        hard = [text for text in dict.fromkeys(row.negatives()) if text not in mine][:CANDIDATES]
        drawn = [others[i] for i in rng.permutation(len(others))[: CANDIDATES + len(mine)].tolist()]
        random = [text for text in drawn if text not in mine][:CANDIDATES]
        if len(hard) == CANDIDATES:
            yield Question(asked(row, hard, make), asked(row, random, make))


def asked(row: Row, texts: Sequence[str], make: Make) -> Batch:
    """The image of the row with its own text and with these."""
    pairs = [replace(make.pair(row), text=text) for text in (row.text, *texts)]
    return make.collate(make(pairs))


def trained(recipe: Recipe, rows: Rows, tokenizer: Tokenizer, seed: int) -> Learner:
    torch.manual_seed(seed)
    learner = Learner(recipe, shapes_of(recipe, tokenizer, rows.metadata()))
    with closing(Loader(rows, recipe, tokenizer, seed=seed, batch_size=recipe.training.batch_size)) as loader:
        optimise.run(learner, loader, seed, Arithmetic())
    return learner.eval()


@torch.no_grad()
def found(learner: Learner, asked: Sequence[Question]) -> tuple[float, ...]:
    """What NAMES say, as shares."""
    figures = []
    for batches in ([one.hard for one in asked], [one.random for one in asked]):
        scores = [learner.similarity(batch.take(torch.tensor([0])), batch)[0] for batch in batches]
        beaten_Q = torch.stack([(score[0] > score[1:]).float().mean() for score in scores])
        figures += [(beaten_Q == 1).float().mean().item(), beaten_Q.mean().item()]
    return tuple(figures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=Path, default=Path("data/shards"))
    parser.add_argument("--asked", type=Path, help="folder of the held-out rows (default: that of --shards)")
    parser.add_argument("--shares", type=float, nargs="*", default=[0.0, 0.2])
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, help="instead of the recipe's")
    options = parser.parse_args()
    torch.set_num_threads(1)
    recipe = variant(0.2, options.steps)
    places = {"train": options.shards, "val": options.asked or options.shards}
    rows, val = (open_rows(place, split, recipe.columns(), recipe.text.languages) for split, place in places.items())
    tokenizer = tokenizers.train(rows.texts(), recipe.text)
    others = sorted({*rows.texts(), *val.texts()})
    every = list(questions(val, others, Make(tokenizer, recipe.units, augment=False)))
    print(f"{len(every)} of {len(val)} held-out captions have {CANDIDATES} hard candidates; {len(rows)} train rows")
    print(f"| mined | seed | {' | '.join(NAMES)} |\n|---|---|{'---|' * len(NAMES)}", flush=True)
    for share in options.shares:
        told = []
        for seed in options.seeds:
            told.append(found(trained(variant(share, options.steps), rows, tokenizer, seed), every))
            print(f"| {share:.0%} | {seed} | {' | '.join(f'{value:.1%}' for value in told[-1])} |", flush=True)
        cells = (f"{statistics.mean(one):.1%} ({min(one):.1%} to {max(one):.1%})" for one in zip(*told, strict=True))
        print(f"| {share:.0%} | mean (range) | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
