"""Training against its own model alone: the share of a step that is not the model's forward, backward and optimiser.

python -m benchmarks.train [--shards data/shards] [--recipes uniter clip] [--steps 60] [--workers 1] [--threads 1]

Each recipe trains at size tiny from its loader, as `pairloom train` does; then the same number of steps runs on the
batches that the loader gave, which lie in memory: the bare loop that any trainer has at the least. Both are taken in
turns, the medians of three rounds are printed. With --threads 1 and a worker the machine needs two cores.
"""

from __future__ import annotations

import argparse
import statistics
import time
from contextlib import closing
from pathlib import Path

import torch

from trainer import optimise
from trainer import recipe as recipes
from trainer import tokenizer as tokenizers
from trainer.batch import Batch
from trainer.data import Loader
from trainer.learner import Learner, shapes_of
from trainer.precision import Arithmetic
from trainer.rows import Rows, open_rows

ROUNDS, WARM = 3, 5


def fed(learner: Learner, loader: Loader) -> float:
    """Seconds of the recipe's steps from the loader."""
    return optimise.run(learner, loader, 0, Arithmetic()).seconds


def bare(learner: Learner, batches: list[Batch]) -> float:
    """Seconds of forward, backward, clipping and AdamW on batches in memory."""
    optimiser, schedule = optimise.updates(learner)
    began = time.perf_counter()
    for batch in batches:
        optimise._step(learner.train(), batch, optimiser, schedule, Arithmetic())
    return time.perf_counter() - began


def measure(name: str, rows: Rows, steps: int, workers: int) -> tuple[float, float, int]:
    """(seconds of the fed loop, of the bare one, rows a batch), medians."""
    recipe = recipes.load(name, "tiny", {"training": {"steps": steps}})
    tokenizer = tokenizers.train(rows.texts(), recipe.text)
    size = recipe.training.batch_size
    with closing(Loader(rows, recipe, tokenizer, batch_size=size)) as loader:
        batches = [batch for _, batch in zip(range(steps + 1), loader, strict=False)][1:]
    times: dict[str, list[float]] = {"fed": [], "bare": []}
    for _ in range(ROUNDS):
        torch.manual_seed(0)
        learner = Learner(recipe, shapes_of(recipe, tokenizer, rows.metadata()))
        bare(learner, batches[:WARM])
        times["bare"].append(bare(learner, batches))
        with closing(Loader(rows, recipe, tokenizer, batch_size=size, workers=workers)) as loader:
            next(iter(loader))  # starting a process is not part of a step, so the first batch is left out of both
            times["fed"].append(fed(learner, loader))
    return statistics.median(times["fed"]), statistics.median(times["bare"]), size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=Path, default=Path("data/shards"))
    parser.add_argument("--recipes", nargs="*", default=["uniter", "lxmert", "vilbert", "clip"])
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"| recipe | rows/s | share of a step that is not the model's, {options.steps} steps |")
    print("|---|---|---|")
    for name in options.recipes:
        recipe = recipes.load(name, "tiny")
        rows = open_rows(options.shards, "train", recipe.columns(), recipe.text.languages)
        whole, model, size = measure(name, rows, options.steps, options.workers)
        print(f"| {name} | {options.steps * size / whole:.0f} | {1 - model / whole:.1%} |", flush=True)


if __name__ == "__main__":
    main()
