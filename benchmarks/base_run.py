"""What training at the published size needs, by counting: parameters, arithmetic and memory a row. No GPU is needed.

python -m benchmarks.base_run [--recipes uniter clip] [--rows 8]

Parameters are those of the model and its heads. Arithmetic is torch's count of one step's forward pass, times three for
the backward pass. Memory a row is what autograd keeps between the forward and the backward pass under bfloat16
autocast, counted with N and with 2 N rows, so that what does not grow with the rows drops out. Another attention kernel
keeps another amount. Made-up rows have 37 regions of 2,048 numbers, or a picture, and captions of 11 words.
"""

from __future__ import annotations

import argparse
import tempfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.loader import make_records, write_ours
from pairloom.loader import Loader
from pairloom.loader import tokenizer as tokenizers
from pairloom.loader.batch import Batch
from pairloom.loader.rows import open_rows
from systems import recipes
from trainer.contract import Shapes
from trainer.learner import Learner, shapes_of

NEEDS_CLASSES = ("mrc",)  # made-up rows have none
REGIONS = 37  # of an image on average, in the features that UNITER published for COCO
VISUAL_GENOME = Shapes(0, feature_width=2048, num_classes=1600, num_attributes=400)


def parameters(name: str) -> int:
    """Of the published shape with all heads."""
    recipe = recipes.load(name, "base")
    shapes = VISUAL_GENOME if "features" in recipe.columns() else Shapes(0, image_size=224)
    with torch.device("meta"):
        learner = Learner(recipe, replace(shapes, vocab_size=recipe.text.vocab_size))
    return sum(parameter.numel() for parameter in learner.parameters())


def counted(learner: Learner, batch: Batch) -> tuple[float, float]:
    """(operations of a step, bytes that autograd keeps) for a batch."""
    own = {parameter.untyped_storage().data_ptr() for parameter in learner.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    counter = FlopCounterMode(display=False)
    saving = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with counter, saving, torch.autocast("cpu", torch.bfloat16):
        loss = learner(batch).loss
    assert loss.isfinite()
    return 3.0 * counter.get_total_flops(), float(sum(kept.values()))


def measure(name: str, folder: Path, rows: int) -> str:
    """A line of the table."""
    document = recipes.load(name, "base").objectives
    changes = {"only": [each for each in document if each not in NEEDS_CLASSES]}
    recipe = recipes.load(name, "base", changes)
    opened = open_rows(folder, "train", recipe.columns(), recipe.text.languages)
    tokenizer = tokenizers.train(opened.texts(), recipe.text)
    torch.manual_seed(0)
    found: dict[int, dict[str, tuple[float, float]]] = {}
    learner = Learner(recipe, shapes_of(recipe, tokenizer, opened.metadata())).train()
    for size in (rows, 2 * rows):
        found[size] = {}
        with closing(Loader(opened, recipe, tokenizer, batch_size=size)) as loader:
            for batch in loader:
                if batch.objective not in found[size]:
                    found[size][batch.objective] = counted(learner, batch)
                if len(found[size]) == len(recipe.steps()):
                    break
    lines = [
        f"| {name} | {kind} | {parameters(name) / 1e6:.1f} | {flops / rows / 1e9:.1f} | "
        f"{(found[2 * rows][kind][1] - kept) / rows / 1e6:.1f} |"
        for kind, (flops, kept) in found[rows].items()
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="*", default=["uniter", "clip"])
    parser.add_argument("--rows", type=int, default=8)
    options = parser.parse_args()
    print(f"torch {torch.__version__}")
    print("| recipe | step | million parameters | GFLOP a row | MB a row |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        records = make_records(64)
        for record in records:
            record["boxes"], record["features"] = record["boxes"][:REGIONS], record["features"][:REGIONS]
        write_ours(Path(folder), records)
        for name in options.recipes:
            print(measure(name, Path(folder), options.rows), flush=True)


if __name__ == "__main__":
    main()
