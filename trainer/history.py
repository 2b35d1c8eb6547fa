"""The record of a training: losses as they come, and where the time went."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import nn

from pairloom.errors import RunError

POINTS = 40  # of a loss curve

Point = dict[str, float | None]  # of a loss curve: `step`, and a loss by the name of each objective


@dataclass(frozen=True)
class Taken:
    """A step that was taken."""

    step: int  # how many are done now
    objective: str  # the kind of step
    losses: Mapping[str, float]  # of each of its objectives
    rows: int  # of all ranks
    lr: float
    gradient: float | None  # its norm before it is clipped, None where it is not
    history: History


class Watch(Protocol):
    """Who looks on: a log. Each rank has its own."""

    def begin(self, learner: nn.Module, done: int) -> None:
        """Before the first step, or the one after so many that a killed run had done."""

    def step(self, taken: Taken) -> None: ...

    def tested(self, step: int, figures: Mapping[str, float]) -> None:
        """After a test on the val split (trainer.trials.figures)."""


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

    def add(self, step: int, losses: Mapping[str, float], rows: int, where: str) -> None:
        """The losses of a step. Raises RunError for one that is no number."""
        for name, loss in losses.items():
            if not math.isfinite(loss):
                raise RunError(f"the loss of {name} is {loss} at step {step}", where, "lower lr, or set clip")
            self.losses[name].append((step, loss))
        self.rows += rows

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

    def state(self) -> dict[str, Any]:
        """What `restore` takes, of plain values. A copy."""
        losses = {name: list(losses) for name, losses in self.losses.items()}
        return {"losses": losses, "waiting_s": self.waiting_s, "seconds": self.seconds, "rows": self.rows}

    def restore(self, state: dict[str, Any]) -> None:
        self.losses = defaultdict(list, {name: list(losses) for name, losses in state["losses"].items()})
        self.waiting_s, self.seconds, self.rows = state["waiting_s"], state["seconds"], state["rows"]
