"""The arithmetic of a detector's convolutions: float32, or narrower where the machine has it."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import nn

from pairloom.errors import ConfigError
from stages.regions.contract import Precision

# Weights and inputs in the narrow type: autocast would convert them anew at each call, and gains nothing on a CPU.
DTYPES: dict[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "tf32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}


CPUINFO = Path("/proc/cpuinfo")
INSTRUCTIONS = {  # as Linux names them, on x86 and ARM
    "bf16": {"avx512_bf16", "amx_bf16", "bf16"},
    "fp16": {"avx512_fp16", "amx_fp16", "asimdhp"},
}


def cast(module: nn.Module, device: str, precision: Precision) -> torch.dtype:
    """Move a module with its weights in this precision, channels last. Returns the type that its inputs must have."""
    set_tf32(device, precision)
    module.to(device, DTYPES[precision]).to(memory_format=torch.channels_last)
    return DTYPES[precision]


def set_tf32(device: str, precision: Precision) -> None:
    """tf32, or not: float32 products on CUDA rounded to 10 bits of fraction, sums in float32.

    A switch of the whole process, which torch has on for convolutions unless told otherwise.
    """
    tf32 = precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    if tf32 and not device.startswith("cuda"):
        raise ConfigError("precision tf32 is CUDA's", where=f"device {device}", fix="set precision to fp32 or bf16")


def warn_if_slow(device: str, precision: Precision) -> None:
    """Say so where a narrow type only costs time."""
    if device == "cpu" and not multiplies(precision):
        print(f"regions: this CPU has no instructions for {precision}: fp32 is several times faster", file=sys.stderr)


def multiplies(precision: Precision) -> bool:
    """Whether this CPU has instructions for the type, taken for granted where it does not say what it has."""
    words = INSTRUCTIONS.get(precision)
    return words is None or not CPUINFO.is_file() or bool(words & set(CPUINFO.read_text(encoding="utf-8").split()))


def refuse_low(detector: str, precision: Precision) -> None:
    """For a detector that gains nothing from narrow types. Raises ConfigError for bf16 and fp16."""
    if precision in ("bf16", "fp16"):
        raise ConfigError(
            f"detector {detector} has no {precision}", where="regions.precision", fix="set precision to fp32"
        )
