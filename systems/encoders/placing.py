"""Where and in which numbers an encoder computes."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from pairloom.errors import ConfigError
from trainer.precision import Arithmetic


@dataclass(frozen=True)
class Placing:
    """device: torch's name. precision: of the matrix products. Vectors come out in float32."""

    device: str
    precision: Literal["float32", "bfloat16"]

    @classmethod
    def of(cls, device: str, precision: Literal["auto", "float32", "bfloat16"], where: str) -> Placing:
        """auto: cuda where there is one, and bfloat16 there. Raises ConfigError for a device that is not there."""
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:
            wrong = f"{where}.device is {device!r}: {str(error).splitlines()[0]}"
            raise ConfigError(wrong, "params.yaml", "set auto or cpu") from error
        if precision == "auto":
            precision = "bfloat16" if device.startswith("cuda") else "float32"
        return cls(device, precision)

    def computing(self) -> AbstractContextManager[Any]:
        """To be entered around each call of the model."""
        stack = ExitStack()
        stack.enter_context(torch.inference_mode())
        stack.enter_context(Arithmetic(self.precision, torch.device(self.device).type).autocast())
        return stack


def unit(vectors_NE: Tensor) -> Tensor:
    """(N, E) float32 on the CPU, each of length 1."""
    return F.normalize(vectors_NE.float(), dim=-1).cpu()
