"""Where the processor's time of a training step goes, of each recipe: what is the model's, and what is not.

python -m benchmarks.step_profile [--shards data/shards] [--recipes uniter clip] [--steps 30] [--worker]
python -m benchmarks.step_profile --size base --batch 4 --steps 2 --warm 1

The recipe trains as `pairloom train` does, on one thread and without workers, so that one thread does all of it. Its
seconds are those on the processor, which other work on the machine changes little. A step's parts are those of
trainer.optimise, and of `data` the reading of rows, the making of examples, the drawing of what is hidden and wrong,
and the collating. `other` is the loop's own work and the history of losses.

A worker that keeps up takes `data` away, which it does where `data` is less than the rest. --worker measures what then
stays outside the model in the training process, the receiving of batches beside `other`. Without --shards rows are
made up (benchmarks/step_rows.py): scenes of 64 pixels with three regions.

--size base is the published shape with its published vocabulary, on rows as large as the papers'. A step takes seconds
there, so the recipe trains once, with a worker, and `data` is that of a loader with nothing between its batches.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from benchmarks import step_rows
from pairloom.loader import Loader
from pairloom.loader.batch import Batch
from pairloom.loader.make import Make
from pairloom.loader.rows import Rows, open_rows
from systems import recipes
from trainer import optimise
from trainer.learner import Learner, shapes_of
from trainer.precision import Arithmetic
from trainer.recipe import Recipe

WARM = 5  # steps that do not count
BATCHES = 20  # of `data_alone`
MODEL = ("forward", "backward", "forward and backward", "update", "waiting for the device")
DATA = ("reading", "making", "drawing", "collating")

Parts = dict[str, float]  # milliseconds, or seconds, of a step by part


class Clock:
    """Processor seconds of this thread by part. Counts from the step after so many `warm` ones."""

    def __init__(self, warm: int) -> None:
        self.seconds: Counter[str] = Counter()
        self.steps, self.warm = 0, warm

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """What trainer.optimise calls instead of torch's record_function."""
        began = time.thread_time()
        if name == "data":
            self.steps += 1
            if self.steps == self.warm + 1:
                self.seconds.clear()
                self.whole = began
        yield
        self.seconds[name] += time.thread_time() - began  # type: ignore[assignment]

    def ended(self, *_: object) -> None:
        """At the end of a step. What is freed after the last one is none's."""
        self.end = time.thread_time()

    def timed(self, name: str, function: Any) -> Any:
        def within(*given: Any, **named: Any) -> Any:
            with self.part(name):
                return function(*given, **named)

        return within


@contextmanager
def clocked(warm: int) -> Iterator[Clock]:
    """Within, a clock runs in the loader and in the steps of a training."""
    clock = Clock(warm)
    with ExitStack() as stack:
        for name, attribute in (("ready", "ready"), ("making", "__call__"), ("collating", "collate")):
            around = clock.timed(name, getattr(Make, attribute))
            stack.enter_context(mock.patch.object(Make, attribute, around))
        stack.enter_context(mock.patch.object(optimise, "record_function", clock.part))
        yield clock


def parts_of(learner: Learner, loader: Loader[Batch], warm: int) -> Parts:
    """Milliseconds of a step by part."""
    with clocked(warm) as clock:
        if loader.workers:
            until_started(loader, clock)
        optimise.run(learner, loader, 0, Arithmetic(), clock.ended)
    spent = of_data(clock)
    spent["other"] = clock.end - clock.whole - sum(spent.values())
    return {name: 1000 * seconds / (clock.steps - warm) for name, seconds in spent.items()}


def of_data(clock: Clock) -> Parts:
    """Seconds by part, those of the data apart."""
    spent: Parts = dict(clock.seconds)
    ready, making, collating = (spent.pop(name, 0.0) for name in ("ready", "making", "collating"))
    spent |= {"making": making, "drawing": ready - making, "collating": collating}
    spent["reading"] = spent.pop("data") - ready - collating
    return spent


def data_alone(recipe: Recipe, rows: Rows, batches: int) -> Parts:
    """Milliseconds of a batch by part, of a loader with nothing between its batches: what a worker takes."""
    with closing(Loader(rows, recipe, batch_size=recipe.training.batch_size)) as loader, clocked(WARM) as clock:
        source = iter(loader)
        for _ in range(WARM + batches):
            with clock.part("data"):
                next(source)
    return {name: 1000 * seconds / batches for name, seconds in of_data(clock).items()}


def until_started(loader: Loader[Batch], clock: Clock) -> None:
    """Until a worker has started, this process makes batches itself: no part of a step."""
    source, made = iter(loader), -1.0
    while clock.seconds["ready"] > made:
        made = clock.seconds["ready"]
        next(source)
        time.sleep(0.05)


def measure(recipe: Recipe, rows: Rows, workers: int, warm: int) -> Parts:
    """Milliseconds of a step by part."""
    torch.manual_seed(0)
    with closing(Loader(rows, recipe, batch_size=recipe.training.batch_size, workers=workers)) as loader:
        shapes = shapes_of(recipe, loader.tokenizer, loader.metadata())
        if recipe.size != "tiny":  # few made-up words make a small vocabulary
            shapes = replace(shapes, vocab_size=max(shapes.vocab_size, recipe.text.vocab_size))
        return parts_of(Learner(recipe, shapes), loader, warm)


def line(name: str, inline: Parts, fed: Parts | None, batch: int) -> str:
    """A row of the table; fed: with a worker."""
    model, data = (sum(inline.get(part, 0.0) for part in group) for group in (MODEL, DATA))
    other = inline["other"]
    figures = [model, *(inline[part] for part in DATA), other]
    cells = [f"{figure:.1f}" for figure in figures] + [f"{(data + other) / (model + data + other):.1%}"]
    if fed is not None:
        outside = sum(spent for part, spent in fed.items() if part not in MODEL)
        cells += [f"{outside:.2f}", f"{outside / sum(fed.values()):.1%}"]
    return f"| {name} | {batch} | {' | '.join(cells)} | {1000 * batch / data:,.0f} |"


def profile(recipe: Recipe, rows: Rows, options: argparse.Namespace) -> tuple[Parts, Parts | None]:
    """(milliseconds of a step by part without a worker, the same with one or None)."""
    if options.size == "tiny":
        fed = measure(recipe, rows, 1, options.warm) if options.worker else None
        return measure(recipe, rows, 0, options.warm), fed
    fed = measure(recipe, rows, 1, options.warm)
    return fed | data_alone(recipe, rows, BATCHES), fed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=Path)
    parser.add_argument("--recipes", nargs="*", default=recipes.names())
    parser.add_argument("--size", default="tiny")
    parser.add_argument("--batch", type=int, help="default: the recipe's")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--warm", type=int, default=WARM, help="steps before those")
    parser.add_argument("--worker", action="store_true", help="train once more, with one")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, size {options.size}, processor milliseconds of a step of {options.steps}")
    heads = ["recipe", "batch", "model", *DATA, "other", "outside the model"]
    heads += ["outside with a worker", "share"] if options.worker or options.size != "tiny" else []
    heads += ["rows/s a core makes"]
    print(f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|")
    with tempfile.TemporaryDirectory() as folder:
        made_up = step_rows.small if options.size == "tiny" else step_rows.published
        shards = options.shards or made_up(Path(folder))
        for name in options.recipes:
            training = {"steps": options.warm + options.steps} | (
                {"batch_size": options.batch} if options.batch else {}
            )
            recipe = recipes.load(name, options.size, {"training": training})
            rows = open_rows(shards, "train", recipe.columns(), recipe.text.languages)
            inline, fed = profile(recipe, rows, options)
            print(line(name, inline, fed, recipe.training.batch_size), flush=True)


if __name__ == "__main__":
    main()
