"""The steps of training: the optimiser, warm-up and decay, clipping."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.profiler import record_function

from devices import parallel, ranks
from devices.parallel import Shared
from pairloom.errors import ConfigError
from pairloom.loader.batch import Batch
from trainer import adversarial
from trainer.average import Average, current
from trainer.bert_adam import BertAdam
from trainer.history import History, Taken, Watch
from trainer.learner import Learner, Losses
from trainer.optimisers import Optimisers
from trainer.precision import Arithmetic
from trainer.recipe import Training
from trainer.state import Batches, Keeper, Run
from trainer.trials import Trials

Report = Callable[[int, int, str, float, float], None]  # step, steps, objective, loss, share of time without data


@dataclass(frozen=True, kw_only=True)
class Around:
    """What may stand around the steps."""

    shared: Shared | None = None  # how ranks share them; None: as `average` does
    average: Average | None = None
    trials: Trials | None = None
    watch: Watch | None = None


def run(
    learner: Learner,
    loader: Batches,
    seed: int,
    arithmetic: Arithmetic,
    report: Report | None = None,
    keeper: Keeper | None = None,
    around: Around = Around(),
) -> History:
    """Train for the recipe's steps, from where the keeper's state ended. The loader's other ranks do so too.

    Dropout is a function of (seed, step, rank), so going on in the middle gives the weights of a run that never
    stopped. The first rank writes the state.
    """
    training, shared = learner.recipe.training, around.shared or parallel.alone(learner)
    optimiser, schedule = updates(learner)
    history = History(tuple(learner.recipe.objectives))
    going = Run(learner, optimiser, schedule, arithmetic.scaler, loader, history, shared, around.average, around.trials)
    done = keeper.restore(going) if keeper else 0
    device = next(learner.parameters()).device
    ranks.agree(done, device)
    rank, size = loader.prepare.rank, loader.prepare.ranks
    if around.watch is not None:
        around.watch.begin(learner, done)
    batches, began = iter(loader), time.monotonic() - history.seconds
    learner.train()
    for step in range(done, training.steps):
        waited = time.monotonic()
        with record_function("data"):
            batch = next(batches)
        history.waiting_s += time.monotonic() - waited
        begin_draws(seed * 1_000_003 + step + (rank << 48), device)
        batch, lr = replace(batch, progress=step / training.steps), float(schedule.get_last_lr()[0])
        losses = take_step(learner, batch, optimiser, schedule, arithmetic, shared)
        if around.average is not None:
            with shared.mixed():
                around.average.update()
        history.add(step, losses, len(batch) * size, where=f"recipe {learner.recipe.name}")
        history.seconds = time.monotonic() - began
        if around.watch is not None:
            norm = None if arithmetic.norm is None else float(arithmetic.norm)
            around.watch.step(Taken(step + 1, batch.objective, losses, len(batch) * size, lr, norm, history))
        if report is not None:
            waiting = history.waiting_s / history.seconds
            report(step + 1, training.steps, batch.objective, sum(losses.values()), waiting)
        if around.trials is not None and (step + 1) % around.trials.every == 0:
            _try(going, step + 1, around.trials, around.watch)
        if keeper is not None:
            keeper.save_if_due(going, step + 1)
    return history


def begin_draws(seed: int, device: torch.device) -> None:
    """As torch.manual_seed, for the processor and this device alone.

    That one keeps a note for each kind of device that is built in but not in use, which took a millisecond a step.
    """
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)


def _try(going: Run, step: int, trials: Trials, watch: Watch | None) -> None:
    """Test what there is after so many steps. Every rank does, rather than wait for the first."""
    tested = current(going.learner, going.shared, going.average)
    with ranks.alone():
        figures = trials.run(step, tested)
    going.learner.train()
    if watch is not None:
        watch.tested(step, figures)


def take_step(
    learner: Learner,
    batch: Batch,
    optimiser: Optimizer,
    schedule: LRScheduler,
    arithmetic: Arithmetic,
    shared: Shared | None = None,
) -> dict[str, float]:
    """One step. Returns the loss of each of its objectives."""
    training, shared = learner.recipe.training, shared or parallel.alone(learner)
    device = shared.parameters[0].device
    with record_function("update"):
        optimiser.zero_grad(set_to_none=True)
    if training.adversarial is None:
        with record_function("forward"), arithmetic.autocast():
            losses: Losses = shared.forward(batch.to(device))
        with record_function("backward"):
            arithmetic.backward(losses.loss)
            found = _detached(losses)
            del losses  # with its graph, whose freeing takes 0.1 ms of 7 at size tiny
    else:
        with record_function("forward and backward"):
            found = _detached(adversarial.backward(learner, batch.to(device), training.adversarial, arithmetic))
    with record_function("update"), shared.mixed():
        ranks.average_gradients(shared.late)
        arithmetic.update(shared.parameters, optimiser, schedule, training.clip)
    with record_function("waiting for the device"):
        return {name: float(loss) for name, loss in found.items()}


def _detached(losses: Losses) -> dict[str, Tensor]:
    """What each objective says, without the graph that it came from."""
    return {name: scored.loss.detach() for name, scored in losses.parts.items()}


def updates(learner: Learner) -> tuple[Optimizer, LRScheduler]:
    """The recipe's optimiser with its settings, and its lr over the steps."""
    training = learner.recipe.training
    groups = parameter_groups(learner, training)
    adam = [group for group in groups if "momentum" not in group]
    settings: dict[str, Any] = {"lr": training.lr, "betas": training.betas, "eps": training.eps}
    optimiser: Optimizer
    if training.optimiser == "bert_adam":
        optimiser = BertAdam(adam, **settings)
    else:  # fused: a small model's step spent a tenth of its time here
        optimiser = torch.optim.AdamW(adam, fused=True, **settings)
    if len(adam) < len(groups):
        optimiser = Optimisers([optimiser, torch.optim.SGD([group for group in groups if "momentum" in group])])
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
    """Matrices decay. Biases, norms, scales and other vectors do not.

    Parts of `lr_of` and `sgd_of` have groups of their own, those of `sgd_of` with a momentum. Raises ConfigError if no
    parameter's name begins as these say.
    """
    own: dict[str, dict[str, object]] = {part: {"lr": lr} for part, lr in training.lr_of.items()}
    own |= {part: vars(settings) for part, settings in training.sgd_of.items()}
    groups: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for name, parameter in learner.named_parameters():
        if parameter.requires_grad:
            part = next((part for part in own if name.startswith(part)), "")
            groups.setdefault((part, parameter.dim() >= 2), []).append(parameter)
    names = [name for name, _ in learner.named_parameters()]
    for part in own:
        if not any(name.startswith(part) for name in names):
            known = ", ".join(sorted({".".join(name.split(".")[:2]) for name in names}))
            where = "training.lr_of or training.sgd_of"
            raise ConfigError(f"no parameter's name begins with {part}", where, f"name any of {known}")
    return [
        {"params": parameters, "weight_decay": training.weight_decay}
        | own.get(part, {})
        | ({} if matrices else {"weight_decay": 0.0})
        for (part, matrices), parameters in sorted(groups.items(), key=lambda item: (item[0][0], not item[0][1]))
    ]
