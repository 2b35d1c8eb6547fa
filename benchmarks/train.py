"""Training against its own model alone: what of a step is not the model's forward, backward and optimiser.

python -m benchmarks.train [--shards data/shards] [--recipes uniter clip] [--steps 60] [--workers 1] [--threads 1]
python -m benchmarks.train --made-up 3000 --recipes uniter --size base --device cuda --precision bfloat16 --batch 256

Each recipe trains from its loader, as `pairloom train` does, and the clock runs around the loop and around the model's
part of it: the rest is waiting for data and what the loop does itself. Then as many steps run on the batches that the
loader gave, which lie in memory: the bare loop that any trainer has at the least. It is shorter by more than the rest,
since no worker shares caches and memory with it. Both are taken in turns, the medians of three rounds are printed. With
--threads 1 and a worker the machine needs two cores. Made-up rows have 36 regions of
2,048 random numbers and no classes, so that what predicts these is left out.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from benchmarks.loader import make_records, write_ours
from pairloom.loader import Loader, Options
from pairloom.loader import tokenizer as tokenizers
from pairloom.loader.batch import Batch
from pairloom.loader.rows import Rows, open_rows
from systems import recipes
from trainer import optimise
from trainer.learner import Learner, shapes_of
from trainer.precision import Arithmetic
from trainer.recipe import Recipe

ROUNDS, WARM, STARTING_S = 3, 5, 8.0


def fed(learner: Learner, loader: Loader[Batch], arithmetic: Arithmetic) -> tuple[float, float]:
    """(seconds of the recipe's steps from the loader, those of them that are the model's)."""
    step, models = optimise.take_step, list[float]()

    def timed(*arguments: Any) -> dict[str, float]:
        began = time.perf_counter()
        losses = step(*arguments)  # waits for a GPU, since it gives numbers
        models.append(time.perf_counter() - began)
        return losses

    with mock.patch.object(optimise, "take_step", timed):
        seconds = optimise.run(learner, loader, 0, arithmetic).seconds
    return seconds, sum(models)


def bare(learner: Learner, batches: list[Batch], arithmetic: Arithmetic) -> float:
    """Seconds of forward, backward, clipping and AdamW on batches in memory."""
    optimiser, schedule = optimise.updates(learner)
    began = time.perf_counter()
    for batch in batches:
        optimise.take_step(learner.train(), batch, optimiser, schedule, arithmetic)
    return time.perf_counter() - began


def measure(recipe: Recipe, rows: Rows, options: argparse.Namespace) -> tuple[float, float, float]:
    """(seconds of the fed loop, share of them that is not the model's, seconds of the bare loop), medians."""
    device, arithmetic = torch.device(options.device), Arithmetic(options.precision, options.device)
    tokenizer = tokenizers.train(rows.texts(), recipe.text)
    size, pin = recipe.training.batch_size, Options(pin=device.type == "cuda")
    with closing(Loader(rows, recipe, tokenizer, batch_size=size)) as loader:
        batches = [batch.to(device) for _, batch in zip(range(options.steps + 1), loader, strict=False)][1:]
    times: dict[str, list[float]] = {"fed": [], "rest": [], "bare": []}
    for _ in range(ROUNDS):
        torch.manual_seed(0)
        learner = Learner(recipe, shapes_of(recipe, tokenizer, rows.metadata())).to(device)
        bare(learner, batches[:WARM], arithmetic)
        times["bare"].append(bare(learner, batches, arithmetic))
        with closing(Loader(rows, recipe, tokenizer, batch_size=size, workers=options.workers, options=pin)) as loader:
            # Until a worker has started, the training makes batches itself: no part of a step, so these are left out.
            until, source = time.monotonic() + STARTING_S * (options.workers > 0), iter(loader)
            while next(source) and time.monotonic() < until:
                time.sleep(0.02)
            seconds, models = fed(learner, loader, arithmetic)
        times["fed"].append(seconds)
        times["rest"].append(1 - models / seconds)
    whole, rest, model = (statistics.median(each) for each in times.values())
    return whole, rest, model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=Path, default=Path("data/shards"))
    parser.add_argument("--made-up", type=int, help="so many rows instead of shards")
    parser.add_argument("--recipes", nargs="*", default=["uniter", "lxmert", "vilbert", "clip"])
    parser.add_argument("--size", default="tiny")
    parser.add_argument("--batch", type=int, help="default: the recipe's")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="float32")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    where = torch.cuda.get_device_name() if options.device.startswith("cuda") else f"CPU, {options.threads} threads"
    print(f"{where}, torch {torch.__version__}, size {options.size}, {options.precision}, {options.workers} workers")
    print(f"| recipe | batch | rows/s | of {options.steps} steps not the model's | bare loop shorter by |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        if options.made_up:
            write_ours(Path(folder), make_records(options.made_up))
            options.shards = Path(folder)
        for name in options.recipes:
            recipe = recipes.load(name, options.size, overrides(options))
            rows = open_rows(options.shards, "train", recipe.columns(), recipe.text.languages)
            whole, rest, model = measure(recipe, rows, options)
            size = recipe.training.batch_size
            rate = options.steps * size / whole
            print(f"| {name} | {size} | {rate:.0f} | {rest:.1%} | {1 - model / whole:.1%} |", flush=True)


def overrides(options: argparse.Namespace) -> dict[str, Any]:
    training = {"steps": options.steps} | ({"batch_size": options.batch} if options.batch else {})
    return {"training": training} | ({"only": ["mlm", "mrfr", "itm"]} if options.made_up else {})


if __name__ == "__main__":
    main()
