"""Trains the starter detector on composed scenes; docs/lab/starter-detector.md has the command that made the weights.

python -m stages.regions.starter.train --steps 1400 --seed 1 --out starter.safetensors
"""

from __future__ import annotations

import argparse
import json
import math
import shlex
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from demo.backdrops import LONGEST, TRAINING, backgrounds
from demo.scenes import ATTRIBUTES, Scene, compose
from demo.things import CLASSES, Pixels, glyphs
from stages.regions import catalogue
from stages.regions.d2 import Boxes, EventStorage, Instances
from stages.regions.starter.backbone import fold
from stages.regions.starter.checkpoint import read
from stages.regions.starter.model import C4Detector

SIZES = ((320, 320), (320, 320), (416, 320), (320, 416))  # width, height. Each batch has one of them
BATCH = 8
STREAM = 20_261_124  # keeps the seeds of training scenes apart from all others


@dataclass
class TrainingScenes(Dataset[dict[str, Any]]):
    """Scene i of a seed, as detectron2's input. Every scene is new."""

    seed: int
    length: int
    photographs: tuple[Pixels, ...]

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, i: int) -> dict[str, Any]:
        size = SIZES[i // BATCH % len(SIZES)]
        rng = np.random.default_rng((STREAM, self.seed, i))
        return as_input(compose(rng, glyphs(), self.photographs, size))


def as_input(scene: Scene) -> dict[str, Any]:
    """The picture, float (3, H, W), and the truth about it as `Instances`."""
    truth = Instances(scene.image.shape[:2])
    truth.gt_boxes = Boxes(torch.tensor([thing.box for thing in scene.things]))
    truth.gt_classes = torch.tensor([CLASSES.index(thing.name) for thing in scene.things])
    truth.gt_attributes = torch.tensor(
        [[float(word in thing.attributes) for word in ATTRIBUTES] for thing in scene.things]
    )
    return {"image": torch.from_numpy(scene.image.copy()).permute(2, 0, 1), "instances": truth}


def photographs(folder: Path | None) -> tuple[Pixels, ...]:
    """The backgrounds: installed photographs that the sample does not use, and those of a folder."""
    pictures = [Image.open(path).convert("RGB") for path in sorted(folder.glob("*.jpg"))] if folder else []
    for picture in pictures:
        picture.thumbnail((LONGEST, LONGEST), Image.Resampling.BOX)
    return (*backgrounds(TRAINING), *(np.asarray(picture) for picture in pictures))


def optimiser(model: C4Detector, rate: float) -> torch.optim.AdamW:
    """AdamW. The pretrained last blocks learn at a third of the rate of the new heads."""
    pretrained = [value for name, value in model.named_parameters() if value.requires_grad and ".tail." in name]
    new = [value for name, value in model.named_parameters() if value.requires_grad and ".tail." not in name]
    groups = [{"params": pretrained, "lr": rate / 3}, {"params": new, "lr": rate}]
    return torch.optim.AdamW(groups, lr=rate, weight_decay=0.01)


def rate_at(step: int, steps: int) -> float:
    """A short linear rise, then half a cosine to a hundredth."""
    warm = min(1.0, (step + 1) / 50)
    return warm * (0.01 + 0.99 * (1 + math.cos(math.pi * step / steps)) / 2)


def train(model: C4Detector, batches: Iterable[list[dict[str, Any]]], steps: int, rate: float, out: Path) -> None:
    """Train for this many steps. The weights so far are saved about every three minutes."""
    optimizer = optimiser(model, rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_at(step, steps))
    mean: dict[str, float] = {}
    start = saved = time.monotonic()
    with EventStorage():
        for step, batch in enumerate(batches, start=1):
            losses: dict[str, Tensor] = model(batch)
            optimizer.zero_grad()
            torch.stack(list(losses.values())).sum().backward()
            torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], 5.0)
            optimizer.step()
            schedule.step()
            now = {name: float(value.detach()) for name, value in losses.items()}
            mean = {name: 0.95 * mean.get(name, value) + 0.05 * value for name, value in now.items()}
            if step % 25 == 0:
                words = " ".join(f"{name.removeprefix('loss_')} {value:.3f}" for name, value in mean.items())
                print(f"step {step}/{steps}  {time.monotonic() - start:.0f} s  {words}", file=sys.stderr, flush=True)
            if time.monotonic() - saved > 180:
                save(model, out)
                saved = time.monotonic()
    save(model, out)


def save(model: C4Detector, out: Path) -> None:
    """The trained tensors in float16, with all names and the command that made them, put in place in one step."""
    tensors = {name: value.half().contiguous() for name, value in sorted(model.trained().items())}
    command = shlex.join(["python", "-m", "stages.regions.starter.train", *sys.argv[1:]])
    notes = {"classes": json.dumps(CLASSES), "attributes": json.dumps(ATTRIBUTES), "command": command}
    part = out.with_suffix(".part")
    save_file(tensors, part, metadata=notes)
    part.replace(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2500, help=f"batches of {BATCH} scenes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=float, default=1e-3, help="highest learning rate of the new heads")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--photographs", type=Path, help="folder of JPEG pictures to use as further backgrounds")
    parser.add_argument("--start", type=Path, help="weights to resume from, such as those of an interrupted training")
    parser.add_argument("--out", type=Path, required=True, help="file to write the weights to (.safetensors)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    model = C4Detector(catalogue.starter(), len(CLASSES), len(ATTRIBUTES))
    if options.start:
        model.load_state_dict(read(options.start).tensors, strict=False)
    fold(model.backbone)
    fold(model.roi_heads.middle)
    scenes = TrainingScenes(options.seed, options.steps * BATCH, photographs(options.photographs))
    batches = DataLoader(scenes, BATCH, collate_fn=list, num_workers=1, prefetch_factor=8)
    train(model.train(), batches, options.steps, options.rate, options.out)


if __name__ == "__main__":
    main()
