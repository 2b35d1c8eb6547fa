"""The arithmetic of a detector's convolutions: float32, or narrower where the machine has it."""

from __future__ import annotations

import torch
from torch import nn

from schemas.errors import ConfigError
from stages.regions.found import Precision

# Weights and inputs in the narrow type: autocast would convert them anew at each call, and gains nothing on a CPU.
DTYPES: dict[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "tf32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}


def cast(module: nn.Module, device: str, precision: Precision) -> torch.dtype:
    """Move a module with its weights in this precision, channels last; returns the type that its inputs must have.

    tf32 is a switch of the whole process: float32 products on CUDA rounded to 10 bits of fraction, sums in float32.
    """
    tf32 = precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    if tf32 and not device.startswith("cuda"):
        raise ConfigError("precision tf32 is CUDA's", where=f"device {device}", fix="set precision to fp32 or bf16")
    module.to(device, DTYPES[precision]).to(memory_format=torch.channels_last)
    return DTYPES[precision]


def refuse_low(detector: str, precision: Precision) -> None:
    """For a detector that gains nothing from narrow types. Raises ConfigError for bf16 and fp16."""
    if precision in ("bf16", "fp16"):
        raise ConfigError(
            f"detector {detector} has no {precision}", where="regions.precision", fix="set precision to fp32"
        )
