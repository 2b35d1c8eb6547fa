"""The steps of training: AdamW, warm-up and decay, clipping, and the record of losses."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import nn

from schemas.errors import RunError
from trainer import adversarial
from trainer.batch import Batch
from trainer.learner import Learner, Losses
from trainer.recipe import Training

POINTS = 40  # of a loss curve

Point = dict[str, float | None]  # of a loss curve: `step`, and a loss by the name of each objective
Report = Callable[[int, int, str, float, float], None]  # step, steps, objective, loss, share of time without data


@dataclass
class History:
    """Losses as they come, and where the time went.

    curve: one dict a point: `step`, and for each objective the mean loss of its steps since the last point; where it
    had none, that of the point before (at first of the next), and None if its turn never came.
    """

    names: tuple[str, ...]
    losses: dict[str, list[tuple[int, float]]] = field(default_factory=lambda: defaultdict(list))
    waiting_s: float = 0.0
    seconds: float = 0.0
    rows: int = 0

    def curve(self, steps: int) -> list[Point]:
        every = max(1, steps // POINTS)
        points: list[Point] = []
        for end in range(every, steps + 1, every):
            before = points[-1] if points else {}
            means = {name: self._mean(name, end - every, end, before.get(name)) for name in self.names}
            points.append({"step": end, **means})
        return points

    def _mean(self, name: str, start: int, end: int, before: float | None) -> float | None:
        within = [loss for step, loss in self.losses[name] if start <= step < end]
        if within:
            return sum(within) / len(within)
        first = self.losses[name][0][1] if self.losses[name] else None
        return first if before is None else before


def run(learner: Learner, batches: Iterator[Batch], seed: int, bfloat16: bool, report: Report | None) -> History:
    """Train for the recipe's steps. Dropout is a function of (seed, step), so a run can go on in the middle."""
    training = learner.recipe.training
    optimiser = torch.optim.AdamW(
        parameter_groups(learner, training.weight_decay), lr=training.lr, betas=training.betas, eps=training.eps
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: lr_share(step, training))
    history = History(tuple(learner.recipe.objectives))
    began = time.monotonic()
    for step in range(training.steps):
        waited = time.monotonic()
        batch = next(batches)
        history.waiting_s += time.monotonic() - waited
        torch.manual_seed(seed * 1_000_003 + step)
        losses = _step(learner.train(), batch, optimiser, training.clip, bfloat16)
        for name, loss in losses.items():
            if not math.isfinite(loss):
                given = f"the loss of {name} is {loss} at step {step}"
                raise RunError(given, f"recipe {learner.recipe.name}", "lower lr, or set clip")
            history.losses[name].append((step, loss))
        schedule.step()
        history.rows += len(batch)
        if report is not None:
            report(
                step + 1,
                training.steps,
                batch.objective,
                sum(losses.values()),
                history.waiting_s / (time.monotonic() - began),
            )
    history.seconds = time.monotonic() - began
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
