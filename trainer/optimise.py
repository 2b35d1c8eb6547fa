"""The steps of training: the optimiser, warm-up and decay, clipping."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from pairloom.errors import ConfigError
from pairloom.loader import Loader
from pairloom.loader.batch import Batch
from trainer import adversarial, ranks
from trainer.bert_adam import BertAdam
from trainer.history import History
from trainer.learner import Learner, Losses
from trainer.precision import Arithmetic
from trainer.recipe import Training
from trainer.state import Keeper, Run

Report = Callable[[int, int, str, float, float], None]  # step, steps, objective, loss, share of time without data


def run(
    learner: Learner,
    loader: Loader[Batch],
    seed: int,
    arithmetic: Arithmetic,
    report: Report | None = None,
    keeper: Keeper | None = None,
) -> History:
    """Train for the recipe's steps, from where the keeper's state ended; the loader's other ranks do so too.

    Dropout is a function of (seed, step, rank), so going on in the middle gives the weights of a run that never
    stopped. The first rank writes the state.
    """
    training = learner.recipe.training
    optimiser, schedule = updates(learner)
    history = History(tuple(learner.recipe.objectives))
    going = Run(learner, optimiser, schedule, arithmetic.scaler, loader, history)
    done = keeper.restore(going) if keeper else 0
    ranks.agree(done, next(learner.parameters()).device)
    rank, size = loader.prepare.rank, loader.prepare.ranks
    batches, began = iter(loader), time.monotonic() - history.seconds
    learner.train()
    for step in range(done, training.steps):
        waited = time.monotonic()
        batch = next(batches)
        history.waiting_s += time.monotonic() - waited
        torch.manual_seed(seed * 1_000_003 + step + (rank << 48))
        batch = replace(batch, progress=step / training.steps)
        losses = _step(learner, batch, optimiser, schedule, arithmetic)
        history.add(step, losses, len(batch) * size, where=f"recipe {learner.recipe.name}")
        history.seconds = time.monotonic() - began
        if report is not None:
            waiting = history.waiting_s / history.seconds
            report(step + 1, training.steps, batch.objective, sum(losses.values()), waiting)
        if keeper is not None and rank == 0:
            keeper.save_if_due(going, step + 1)
    return history


def _step(
    learner: Learner, batch: Batch, optimiser: Optimizer, schedule: LRScheduler, arithmetic: Arithmetic
) -> dict[str, float]:
    """One step; the loss of each of its objectives."""
    device, training = next(learner.parameters()).device, learner.recipe.training
    optimiser.zero_grad(set_to_none=True)
    if training.adversarial is None:
        with arithmetic.autocast():
            losses: Losses = learner(batch.to(device))
        arithmetic.backward(losses.loss)
    else:
        losses = adversarial.backward(learner, batch.to(device), training.adversarial, arithmetic)
    ranks.average_gradients(learner.parameters())
    arithmetic.update(learner, optimiser, schedule, training.clip)
    return {name: float(scored.loss.detach()) for name, scored in losses.parts.items()}


def updates(learner: Learner) -> tuple[Optimizer, LRScheduler]:
    """The recipe's optimiser with its settings, and its lr over the steps."""
    training = learner.recipe.training
    groups = parameter_groups(learner, training)
    settings: dict[str, Any] = {"lr": training.lr, "betas": training.betas, "eps": training.eps}
    optimiser: Optimizer
    if training.optimiser == "bert_adam":
        optimiser = BertAdam(groups, **settings)
    else:  # fused: a small model's step spent a tenth of its time here
        optimiser = torch.optim.AdamW(groups, fused=True, **settings)
    return optimiser, torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: lr_share(step, training))


def lr_share(step: int, training: Training) -> float:
    """Share of training.lr at this step: it rises over the warm-up, then falls as the schedule says."""
    warm = max(1, round(training.warmup * training.steps))
    if step < warm:
        return (step + 1) / (warm + 1)
    if training.schedule == "drops":
        return 0.1 ** sum(step >= drop * training.steps for drop in training.drops)
    progress = min((step - warm) / max(training.steps - warm, 1), 1.0)
    return 1 - progress if training.schedule == "linear" else (1 + math.cos(math.pi * progress)) / 2


def parameter_groups(learner: nn.Module, training: Training) -> list[dict[str, object]]:
    """Matrices decay; biases, norms, scales and other vectors do not. Parts of `lr_of` have groups of their own.

    Raises ConfigError if no parameter's name begins as `lr_of` says.
    """
    groups: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for name, parameter in learner.named_parameters():
        if parameter.requires_grad:
            part = next((part for part in training.lr_of if name.startswith(part)), "")
            groups.setdefault((part, parameter.dim() >= 2), []).append(parameter)
    names = [name for name, _ in learner.named_parameters()]
    for part in training.lr_of:
        if not any(name.startswith(part) for name in names):
            known = ", ".join(sorted({".".join(name.split(".")[:2]) for name in names}))
            raise ConfigError(f"no parameter's name begins with {part}", "training.lr_of", f"name any of {known}")
    return [
        {"params": parameters, "weight_decay": training.weight_decay if matrices else 0.0}
        | ({"lr": training.lr_of[part]} if part else {})
        for (part, matrices), parameters in sorted(groups.items(), key=lambda item: (item[0][0], not item[0][1]))
    ]
