"""Where the time of a training step goes: `pairloom train --profile`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import nn
from torch.profiler import profile, schedule

from trainer.history import Taken

WARM, STEPS = 5, 20  # steps that are left out, and those that are looked at
MODEL = (
    "forward",
    "backward",
    "forward and backward",
    "update",
    "waiting for the device",
)  # of trainer.optimise


class StepProfile:
    """Looks at some steps with torch's profiler.

    trace: the file for chrome://tracing or Perfetto. shares: of the steps' time, by part. `rest` is what no part is.
    """

    def __init__(self, trace: Path) -> None:
        self.trace, self.shares = trace, dict[str, float]()
        steps = schedule(wait=WARM - 2, warmup=2, active=STEPS, repeat=1)
        self._profile = profile(schedule=steps, on_trace_ready=self._ready)

    def begin(self, learner: nn.Module, done: int) -> None:
        self._profile.start()

    def step(self, taken: Taken) -> None:
        self._profile.step()

    def tested(self, step: int, figures: Mapping[str, float]) -> None:
        """No part of a step."""

    def _ready(self, found: profile) -> None:
        self.trace.parent.mkdir(parents=True, exist_ok=True)
        found.export_chrome_trace(str(self.trace))
        times = {one.key: one.cpu_time_total for one in found.key_averages()}
        whole = sum(time for name, time in times.items() if name.startswith("ProfilerStep"))
        parts = {name: times[name] / whole for name in ("data", *MODEL) if name in times}
        self.shares = {**parts, "rest": 1 - sum(parts.values())}

    @property
    def outside(self) -> float:
        """The share that is neither the model's nor the optimiser's."""
        return 1 - sum(self.shares.get(name, 0.0) for name in MODEL)

    def table(self) -> str:
        lines = [f"{name:24}{share:7.1%}" for name, share in self.shares.items()]
        return "\n".join([*lines, f"{'outside the model':24}{self.outside:7.1%}", f"trace: {self.trace}"])

    def __enter__(self) -> StepProfile:
        return self

    def __exit__(self, *_: object) -> None:
        self._profile.stop()
