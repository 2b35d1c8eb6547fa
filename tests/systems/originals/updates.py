"""Steps and rates: UNITER's AdamW and schedule, and the cosine of open_clip."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from tests.systems.originals.drawn import Numbers, numbers
from tests.systems.originals.taking import Originals

COMMIT, RELEASE = "f2582bc2532b58f95a07973f3112b4876ed3de3e", "v3.3.0"
TOTAL, RISING = 40, 8  # steps
LR, BETAS, EPS, DECAY, STEPS = 5e-5, (0.9, 0.98), 1e-6, 0.01, 10  # its configuration of pre-training


def weights() -> list[nn.Parameter]:
    """A matrix whose gradients are large, and a vector whose gradients are small."""
    return [nn.Parameter(numbers("matrix", 4, 3)), nn.Parameter(numbers("vector", 5))]


def gradients(step: int) -> list[Tensor]:
    return [numbers(f"matrix at {step}", 4, 3, scale=3.0), numbers(f"vector at {step}", 5, scale=1e-2)]


def run(folder: Path) -> tuple[Any, Numbers]:
    uniter = Originals(folder, "ChenRocks/UNITER", COMMIT)
    uniter.put(Optimizer=torch.optim.Optimizer)
    uniter.take("optim/sched.py", "warmup_linear", "get_lr_sched")
    uniter.take("optim/adamw.py", "AdamW")
    clip = Originals(folder, "mlfoundations/open_clip", RELEASE)
    clip.take("src/open_clip_train/scheduler.py", "assign_learning_rate", "_warmup_lr", "cosine_lr")
    asked = SimpleNamespace(learning_rate=1.0, warmup_steps=RISING, num_train_steps=TOTAL)
    cosine = clip.cosine_lr(SimpleNamespace(param_groups=[]), 1.0, RISING, TOTAL)
    found = {"linear": [uniter.get_lr_sched(step, asked) for step in range(1, TOTAL + 1)],
             "cosine": [cosine(step) for step in range(TOTAL)], "adamw": moved(uniter)}  # fmt: skip
    return [uniter.facts(), clip.facts()], found


def moved(original: Originals) -> Numbers:
    """How far each weight is from its start after each step."""
    given, start = weights(), weights()
    optimiser = original.AdamW(given, lr=LR, betas=BETAS, eps=EPS, weight_decay=DECAY)
    found: Numbers = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the order of torch's arguments was another then
        for step in range(STEPS):
            for weight, gradient in zip(given, gradients(step), strict=True):
                weight.grad = gradient
            optimiser.step()
            found[str(step)] = distances(given, start)
    return found


def distances(given: list[nn.Parameter], start: list[nn.Parameter]) -> Numbers:
    return {str(number): ((now - then) / LR).flatten().tolist()
            for number, (now, then) in enumerate(zip(given, start, strict=True))}  # fmt: skip
