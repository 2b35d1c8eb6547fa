"""The steps of training: AdamW, warm-up and decay, clipping."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import nn

from trainer import adversarial
from trainer.batch import Batch
from trainer.data import Loader
from trainer.history import History
from trainer.learner import Learner, Losses
from trainer.recipe import Training
from trainer.state import Keeper, Run

Report = Callable[[int, int, str, float, float], None]  # step, steps, objective, loss, share of time without data


def run(
    learner: Learner, loader: Loader, seed: int, bfloat16: bool, report: Report | None, keeper: Keeper | None = None
) -> History:
    """Train for the recipe's steps, from where the keeper's state ended.

    Dropout is a function of (seed, step), so going on in the middle gives the weights of a run that never stopped.
    """
    training = learner.recipe.training
    optimiser = torch.optim.AdamW(
        parameter_groups(learner, training.weight_decay), lr=training.lr, betas=training.betas, eps=training.eps
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: lr_share(step, training))
    history = History(tuple(learner.recipe.objectives))
    going = Run(learner, optimiser, schedule, loader, history)
    done = keeper.restore(going) if keeper else 0
    batches, began = iter(loader), time.monotonic() - history.seconds
    for step in range(done, training.steps):
        waited = time.monotonic()
        batch = next(batches)
        history.waiting_s += time.monotonic() - waited
        torch.manual_seed(seed * 1_000_003 + step)
        batch = replace(batch, progress=step / training.steps)
        losses = _step(learner.train(), batch, optimiser, training.clip, bfloat16)
        schedule.step()
        history.add(step, losses, len(batch), where=f"recipe {learner.recipe.name}")
        history.seconds = time.monotonic() - began
        if report is not None:
            waiting = history.waiting_s / history.seconds
            report(step + 1, training.steps, batch.objective, sum(losses.values()), waiting)
        if keeper is not None:
            keeper.save_if_due(going, step + 1)
    return history


def _step(
    learner: Learner, batch: Batch, optimiser: torch.optim.Optimizer, clip: float | None, bfloat16: bool
) -> dict[str, float]:
    """One step; the loss of each of its objectives."""
    device = next(learner.parameters()).device
    autocast = partial(torch.autocast, device.type, dtype=torch.bfloat16, enabled=bfloat16)
    settings = learner.recipe.training.adversarial
    optimiser.zero_grad(set_to_none=True)
    if settings is None:
        with autocast():
            losses: Losses = learner(batch.to(device))
        torch.autograd.backward(losses.loss)
    else:
        losses = adversarial.backward(learner, batch.to(device), settings, autocast)
    if clip is not None:
        nn.utils.clip_grad_norm_(learner.parameters(), clip)
    optimiser.step()
    return {name: float(scored.loss.detach()) for name, scored in losses.parts.items()}


def lr_share(step: int, training: Training) -> float:
    """Share of training.lr at this step: it rises over the warm-up, then falls to 0 on a line or half a cosine."""
    warm = max(1, round(training.warmup * training.steps))
    if step < warm:
        return (step + 1) / (warm + 1)
    progress = min((step - warm) / max(training.steps - warm, 1), 1.0)
    return 1 - progress if training.schedule == "linear" else (1 + math.cos(math.pi * progress)) / 2


def parameter_groups(learner: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Matrices decay; biases, norms, scales and other vectors do not."""
    matrices = [parameter for parameter in learner.parameters() if parameter.requires_grad and parameter.dim() >= 2]
    vectors = [parameter for parameter in learner.parameters() if parameter.requires_grad and parameter.dim() < 2]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
