"""Where the processor's time of a training step goes, of each recipe: what is the model's, and what is not.

python -m benchmarks.step_profile [--shards data/shards] [--recipes uniter clip] [--size tiny] [--steps 30] [--worker]

The recipe trains as `pairloom train` does, on one thread and without workers, so that one thread does all of it. Its
seconds are those on the processor, which other work on the machine changes little. A step's parts are those of
trainer.optimise, and of `data` the reading of rows, the making of examples, the drawing of what is hidden and wrong,
and the collating. `other` is the loop's own work and the history of losses.

A worker that keeps up takes `data` away, which it does where `data` is less than the rest. --worker measures what then
stays outside the model in the training process, the receiving of batches beside `other`. Without --shards rows are
made-up scenes of 64 pixels with three regions.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from pairloom.loader import Loader
from pairloom.loader.batch import Batch
from pairloom.loader.make import Make
from pairloom.loader.rows import Rows, open_rows
from schemas.shards import SHARDS
from systems import recipes
from tests.building import training_shard, write_table
from tests.evaluation import scenes
from tests.pairloom.loader.loading import PATCHED
from tests.systems.test_overfitting import row
from trainer import optimise
from trainer.learner import Learner, shapes_of
from trainer.precision import Arithmetic
from trainer.recipe import Recipe

WARM, ROWS, GROUP = 5, 600, 100
MODEL = ("forward", "backward", "forward and backward", "update", "waiting for the device")
DATA = ("reading", "making", "drawing", "collating")


class Clock:
    """Processor seconds of this thread by part. Counts from the step `WARM` on."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self.steps = 0

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """What trainer.optimise calls instead of torch's record_function."""
        began = time.thread_time()
        if name == "data":
            self.steps += 1
            if self.steps == WARM + 1:
                self.seconds.clear()
                self.whole = began
        yield
        self.seconds[name] += time.thread_time() - began  # type: ignore[assignment]

    def timed(self, name: str, function: Any) -> Any:
        def within(*given: Any, **named: Any) -> Any:
            with self.part(name):
                return function(*given, **named)

        return within


def parts_of(learner: Learner, loader: Loader[Batch]) -> dict[str, float]:
    """Milliseconds of a step by part."""
    clock = Clock()
    clocked = {"ready": Make.ready, "making": Make.__call__, "collating": Make.collate}
    attributes = {"ready": "ready", "making": "__call__", "collating": "collate"}
    patches = [mock.patch.object(Make, attributes[name], clock.timed(name, each)) for name, each in clocked.items()]
    with mock.patch.object(optimise, "record_function", clock.part), patches[0], patches[1], patches[2]:
        if loader.workers:
            until_started(loader, clock)
        optimise.run(learner, loader, 0, Arithmetic())
        whole = time.thread_time() - clock.whole
    spent: dict[str, float] = dict(clock.seconds)
    ready, making, collating = (spent.pop(name, 0.0) for name in clocked)
    spent |= {"making": making, "drawing": ready - making, "collating": collating}
    spent["reading"] = spent.pop("data") - ready - collating
    spent["other"] = whole - sum(spent.values())
    steps = clock.steps - WARM
    return {name: 1000 * seconds / steps for name, seconds in spent.items()}


def until_started(loader: Loader[Batch], clock: Clock) -> None:
    """Until a worker has started, this process makes batches itself: no part of a step."""
    source, made = iter(loader), -1.0
    while clock.seconds["ready"] > made:
        made = clock.seconds["ready"]
        next(source)
        time.sleep(0.05)


def measure(recipe: Recipe, rows: Rows, workers: int) -> dict[str, float]:
    """Milliseconds of a step by part."""
    torch.manual_seed(0)
    with closing(Loader(rows, recipe, batch_size=recipe.training.batch_size, workers=workers)) as loader:
        learner = Learner(recipe, shapes_of(recipe, loader.tokenizer, loader.metadata()))
        return parts_of(learner, loader)


def line(name: str, inline: dict[str, float], fed: dict[str, float] | None) -> str:
    """A row of the table; fed: with a worker."""
    model, data = (sum(inline.get(part, 0.0) for part in group) for group in (MODEL, DATA))
    other = inline["other"]
    figures = [model, *(inline[part] for part in DATA), other]
    shares = [(data + other) / (model + data + other), other / (model + other)]
    shares += [] if fed is None else [1 - sum(fed.get(part, 0.0) for part in MODEL) / sum(fed.values())]
    cells = [*(f"{figure:.1f}" for figure in figures), *(f"{share:.1%}" for share in shares)]
    return f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=Path)
    parser.add_argument("--recipes", nargs="*", default=recipes.names())
    parser.add_argument("--size", default="tiny")
    parser.add_argument("--batch", type=int, help="default: the recipe's")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--worker", action="store_true", help="train once more, with one")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, size {options.size}, processor milliseconds of a step of {options.steps}")
    heads = ["recipe", "model", *DATA, "other", "outside the model", "`other` alone"] + [
        "with a worker"
    ] * options.worker
    print(f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|")
    with tempfile.TemporaryDirectory() as folder:
        shards = options.shards or made_up(Path(folder))
        for name in options.recipes:
            training = {"steps": WARM + options.steps} | ({"batch_size": options.batch} if options.batch else {})
            recipe = recipes.load(name, options.size, {"training": training})
            rows = open_rows(shards, "train", recipe.columns(), recipe.text.languages)
            fed = measure(recipe, rows, 1) if options.worker else None
            print(line(name, measure(recipe, rows, 0), fed), flush=True)


def made_up(folder: Path) -> Path:
    """Shards of scenes, with patches."""
    starts = range(0, ROWS, GROUP)
    notes = scenes.METADATA | PATCHED
    made = [training_shard([row(number) for number in range(at, at + GROUP)], "train", notes) for at in starts]
    shards = {f"train-{number:05d}": table for number, table in enumerate(made)}
    return write_table(folder / "shards", SHARDS, shards, indexed=True)


if __name__ == "__main__":
    main()
