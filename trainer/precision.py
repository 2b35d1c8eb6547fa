"""In which numbers a step computes: float32, or the short ones, with weights and their updates in float32."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from devices.parallel import in_pieces

Precision = Literal["float32", "bfloat16", "float16"]
SHORT = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def as_float32(values: Tensor) -> Tensor:
    """The values in float32 at least: losses are not computed in half precision."""
    return values if values.dtype == torch.float64 else values.float()


class Arithmetic:
    """device: torch's name of the kind. autocast: to be entered around the forward passes.

    scaler: in float16 it scales the loss, so that small gradients do not vanish, and leaves out the steps whose
    gradients overflow, the first ones mostly; in the others it does nothing.
    """

    def __init__(self, precision: Precision = "float32", device: str = "cpu") -> None:
        self.autocast: Callable[[], AbstractContextManager[Any]] = partial(
            torch.autocast, device, dtype=SHORT.get(precision), enabled=precision in SHORT
        )
        self.norm: Tensor | None = None  # of the last gradient, before it was clipped
        # torch begins at 65,536, at which gradients above 1 overflow and the first steps are lost.
        self.scaler = torch.amp.GradScaler(device, init_scale=1024.0, enabled=precision == "float16")

    def backward(self, loss: Tensor) -> None:
        torch.autograd.backward(self.scaler.scale(loss))

    def update(
        self, parameters: Sequence[nn.Parameter], optimiser: Optimizer, schedule: LRScheduler, clip: float | None
    ) -> None:
        """One step of both, unless gradients overflowed. clip: largest norm of the gradient of all parameters."""
        self.scaler.unscale_(optimiser)
        if clip is not None:
            norm = nn.utils.clip_grad_norm_(parameters, clip)
            self.norm = norm.full_tensor() if in_pieces(norm) else norm
        before = self.scaler.get_scale()
        self.scaler.step(optimiser)
        self.scaler.update()
        if self.scaler.get_scale() >= before:
            schedule.step()
