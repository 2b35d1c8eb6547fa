"""The record of a training: losses as they come, and where the time went."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pairloom.errors import RunError

POINTS = 40  # of a loss curve

Point = dict[str, float | None]  # of a loss curve: `step`, and a loss by the name of each objective


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
        """The losses of a step; raises RunError for one that is no number."""
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
        """What `restore` takes, of plain values."""
        return {"losses": dict(self.losses), "waiting_s": self.waiting_s, "seconds": self.seconds, "rows": self.rows}

    def restore(self, state: dict[str, Any]) -> None:
        self.losses = defaultdict(list, {name: list(losses) for name, losses in state["losses"].items()})
        self.waiting_s, self.seconds, self.rows = state["waiting_s"], state["seconds"], state["rows"]
