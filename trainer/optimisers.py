"""`Optimisers`: one optimiser for some parameters and another for the rest, stepped and saved as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch.optim import Optimizer


class Optimisers(Optimizer):
    """Has the parameter groups of all of them, so that a schedule and a gradient scaler see one optimiser."""

    def __init__(self, optimisers: Sequence[Optimizer]) -> None:
        self.optimisers = tuple(optimisers)
        super().__init__([group for optimiser in self.optimisers for group in optimiser.param_groups], {})

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        assert closure is None
        for optimiser in self.optimisers:
            optimiser.step()

    def state_dict(self) -> dict[str, Any]:
        return {"optimisers": [optimiser.state_dict() for optimiser in self.optimisers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for optimiser, state in zip(self.optimisers, state_dict["optimisers"], strict=True):
            optimiser.load_state_dict(state)
        # loading gives each new groups, and the schedule must change those that are in use
        self.param_groups = [group for optimiser in self.optimisers for group in optimiser.param_groups]
