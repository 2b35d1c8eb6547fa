"""What features lose in each stored type, and what a recipe's losses make of it. `python -m benchmarks.vectors --loss`.

Without --loss: the relative RMS error on seeded vectors. With it, the same made-up rows are written in each type, and
UNITER (tiny; mlm and mrfr) is trained on each from the same weights with the same masks: rows of 20 regions, each one
of 30 classes, whose caption names three of them. A feature is its class's seeded vector with noise. --seeds says what
another seed changes, to hold it against.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.formats import Record
from benchmarks.loader import shard
from pairloom import vectors
from pairloom.loader import Loader
from pairloom.vectors import Stored
from schemas.shards import SHARDS
from systems import recipes
from systems.parts import Shelf
from tests.building import write_table
from trainer import optimise
from trainer.learner import Learner, shapes_of
from trainer.precision import Arithmetic
from trainer.recipe import parse

TYPES: tuple[Stored, ...] = ("float32", "float16", "int8")
CLASSES, ROWS, SHOWN, WIDTH = 30, 1600, 20, 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loss", action="store_true")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.loss:
        losses(arguments.steps, arguments.seeds)
    else:
        errors()


def errors() -> None:
    features = np.random.default_rng(0).standard_exponential((55 * 16, 2048))
    print(f"{len(features)} exponential vectors of 2048, seed 0; error relative to float64, float16 = 1")
    found = {}
    for stored in ("float16", "float32", "int8"):
        numbers, scales = vectors.pack(features, stored)
        back = vectors.unpack(numbers, scales, len(features), vectors.NUMPY[stored]).astype(np.float64)
        found[stored] = float(np.sqrt(((back - features) ** 2).mean() / (features**2).mean()))
        size = (len(numbers) + len(scales or b"")) // 16
        print(f"{stored:8} {size:9,} bytes a row  error {found[stored]:.2e}  {found[stored] / found['float16']:8.2g}×")


def losses(steps: int, seeds: int) -> None:
    print(f"mean loss of the last quarter of each objective's steps of {steps}; {ROWS} rows, torch {torch.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        for stored in TYPES:
            write(Path(folder) / stored, stored)
            for seed in range(seeds):
                found = train(Path(folder) / stored, steps, seed)
                print(f"{stored:8} seed {seed}  " + "  ".join(f"{name} {loss:.5f}" for name, loss in found.items()))


def records() -> list[Record]:
    rng = np.random.default_rng(0)
    kinds = rng.standard_exponential((CLASSES, WIDTH)) * (rng.random((CLASSES, WIDTH)) < 0.5)
    found = []
    for _ in range(ROWS):
        classes = np.repeat(rng.choice(CLASSES, 4, replace=False), SHOWN // 4)
        captions = [" beside ".join(f"thing{c}" for c in rng.permutation(classes[::5])[:3]) for _ in range(5)]
        features = (kinds[classes] * rng.gamma(4, 0.25, (SHOWN, WIDTH))).astype(np.float32)
        corners = rng.uniform(0, 400, (SHOWN, 2))
        boxes = np.concatenate([corners, corners + 60], axis=1).astype(np.float32)
        found.append({"jpg": b"", "features": features, "boxes": boxes, "captions": captions})
    return found


def write(folder: Path, stored: Stored) -> None:
    write_table(folder, SHARDS, {"train-00000": shard(records(), 0, stored)}, indexed=True)


def train(folder: Path, steps: int, seed: int) -> dict[str, float]:
    source: Any = recipes.load("uniter", "tiny", {"training": {"steps": steps}, "text": {"vocab_size": 200}}).source
    objectives = {name: source["objectives"][name] for name in ("mlm", "mrfr")}
    recipe = parse(source | {"objectives": objectives, "retrieval": None}, "vectors", "tiny", "benchmarks", Shelf())
    loader = Loader(folder, recipe, seed=seed, batch_size=64)
    torch.manual_seed(seed)
    learner = Learner(recipe, shapes_of(recipe, loader.tokenizer, loader.metadata()))
    history = optimise.run(learner, loader, seed, Arithmetic())
    return {name: float(np.mean([x for _, x in found[-len(found) // 4 :]])) for name, found in history.losses.items()}


if __name__ == "__main__":
    main()
