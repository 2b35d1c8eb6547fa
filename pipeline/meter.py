"""What a log says about a training: losses, the share of the machine's arithmetic that is used, and memory."""

from __future__ import annotations

import resource
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.hooks import RemovableHandle

from pipeline import logs
from trainer.config import Config
from trainer.history import Taken, Watch

# Dense bfloat16 or float16 with sums in float32, in 10¹² operations a second, from the makers' data sheets.
PEAKS = {"H200": 989, "H100 PCIe": 756, "H100": 989, "A100": 312, "L40S": 362, "V100": 125, "RTX 4090": 165}


class Watches(list[Watch]):
    """All of them, as one."""

    def begin(self, learner: nn.Module, done: int) -> None:
        for watch in self:
            watch.begin(learner, done)

    def step(self, taken: Taken) -> None:
        for watch in self:
            watch.step(taken)

    def tested(self, step: int, figures: Mapping[str, float]) -> None:
        for watch in self:
            watch.tested(step, figures)


@dataclass
class Meter:
    """Writes to logs every so many steps, the first rank's numbers and the rows of all ranks.

    mfu: forward passes as torch counts their arithmetic, once a kind of step and by row, times three for the backward
    pass, against the device's peak. What is computed again to save memory does not count. Only for devices in PEAKS.
    """

    config: Config
    name: str
    folder: Path
    ranks: int = 1
    _logs: list[logs.Log] = field(default_factory=list)
    _losses: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    _flops: dict[str, float] = field(default_factory=dict)  # of a row in all forward passes of a step, by its kind
    _first: float = 0.0  # the same of the step that is being counted
    _counter: FlopCounterMode | None = None
    _hooks: list[RemovableHandle] = field(default_factory=list)
    _work: float = 0.0
    _rows: int = 0
    _since: float = field(default_factory=time.monotonic)
    _waited: float = 0.0

    def begin(self, learner: nn.Module, done: int) -> None:
        settings = {key: str(value) for key, value in vars(self.config).items()}
        self._logs = logs.opened(self.config.log, self.folder, self.name, settings, done)
        self._device = next(learner.parameters()).device
        self._hooks = [learner.register_forward_pre_hook(self._before), learner.register_forward_hook(self._after)]
        self._since = time.monotonic()

    def _before(self, learner: nn.Module, given: tuple[Any, ...]) -> None:
        if given[0].objective not in self._flops and learner.training:
            self._counter = FlopCounterMode(display=False)
            self._counter.__enter__()

    def _after(self, learner: nn.Module, given: tuple[Any, ...], found: Any) -> None:
        if self._counter is not None:
            self._counter.__exit__(None, None, None)
            self._first += self._counter.get_total_flops() / len(given[0])
            self._counter = None

    def step(self, taken: Taken) -> None:
        for name, loss in taken.losses.items():
            self._losses[name].append(loss)
        if taken.objective not in self._flops:
            self._flops[taken.objective], self._first = self._first, 0.0
        self._rows += taken.rows
        self._work += 3 * taken.rows * self._flops.get(taken.objective, 0.0)
        if taken.step % self.config.log_every:
            return
        now = time.monotonic()
        seconds, waited = now - self._since, taken.history.waiting_s
        values = {f"loss/{name}": sum(losses) / len(losses) for name, losses in self._losses.items()}
        values |= {"training/lr": taken.lr, "speed/rows_per_s": self._rows / seconds}
        values |= {} if taken.gradient is None else {"training/gradient_norm": taken.gradient}
        values |= {"speed/waiting_for_data": (waited - self._waited) / seconds, "memory/gb": self._memory_gb()}
        values |= self._speed(seconds)
        self._write(taken.step, values)
        self._losses.clear()
        self._rows, self._work, self._since, self._waited = 0, 0.0, now, waited

    def _speed(self, seconds: float) -> dict[str, float]:
        rate = self._work / seconds / self.ranks / 1e12
        peak = peak_tflops(torch.cuda.get_device_name(self._device)) if self._device.type == "cuda" else None
        return {"speed/tflops_per_device": rate} | ({} if peak is None else {"speed/mfu": rate / peak})

    def _memory_gb(self) -> float:
        """The most so far: of the GPU's, or of this process's where there is none."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device) / 1e9
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9

    def tested(self, step: int, figures: Mapping[str, float]) -> None:
        self._write(step, {f"val/{name}": value for name, value in figures.items() if name != "step"})

    def _write(self, step: int, values: Mapping[str, float]) -> None:
        for log in self._logs:
            log.write(step, values)

    def __enter__(self) -> Meter:
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()
        logs.close(self._logs)


def peak_tflops(device: str) -> float | None:
    return next((peak for name, peak in PEAKS.items() if name in device), None)
