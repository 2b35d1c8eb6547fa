"""Heads over a picture's vector, such as aesthetic, NSFW or watermark: one linear layer or several, from a file.

A file holds weights of layers one after another, as LAION's aesthetic predictor does (`layers.0.weight`, `layers.2.…`)
or a linear head alone (`weight`, `bias`). Its order is that of the numbers in the names. A safetensors file may say in
its metadata `activation` (relu, gelu, tanh or none, between layers) and `output` (sigmoid or none); without it both are
none, which is what LAION's aesthetic heads compute: their dropout does nothing in evaluation.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pairloom.errors import InputError
from trainer import weight_files

Step = Callable[[Tensor], Tensor]
STEPS: Mapping[str, Step] = {
    "none": lambda values: values, "relu": F.relu, "gelu": F.gelu, "tanh": torch.tanh, "sigmoid": torch.sigmoid,
}  # fmt: skip


@dataclass(frozen=True)
class Head:
    """name: the file's, without its ending. layers: (weight (out, in), bias (out,)), the last with one output."""

    name: str
    layers: tuple[tuple[Tensor, Tensor], ...]
    activation: str
    output: str

    def __call__(self, vectors_BE: Tensor) -> Tensor:
        """(B,) float32."""
        values = vectors_BE
        for number, (weight, bias) in enumerate(self.layers):
            values = F.linear(values, weight, bias)
            values = STEPS[self.activation](values) if number + 1 < len(self.layers) else values
        return STEPS[self.output](values)[:, 0]


def read(path: Path, width: int) -> Head:
    """The head of a file. width: of the vectors. Raises InputError if its layers do not fit each other or the width."""
    state = weight_files.read(path)
    names = sorted((name for name, value in state.items() if value.ndim == 2), key=_numbers)
    layers = tuple((state[name].float(), _bias(state, name)) for name in names)
    shapes = [tuple(weight.shape) for weight, _ in layers]
    chained = all(before[0] == after[1] for before, after in pairwise(shapes))
    if not layers or shapes[0][1] != width or shapes[-1][0] != 1 or not chained:
        wrong = f"its layers are {', '.join(map(str, shapes)) or 'none'}, not from {width} numbers to 1"
        raise InputError(wrong, str(path), "name a head that was trained on this model's vectors of pictures")
    told = _metadata(path)
    steps = {key: told.get(key, "none") for key in ("activation", "output")}
    for key, value in steps.items():
        if value not in STEPS:
            raise InputError(f"its metadata says {key} {value!r}", str(path), f"write one of {', '.join(STEPS)}")
    return Head(path.stem, layers, **steps)


def read_all(files: Sequence[str], width: int) -> tuple[Head, ...]:
    return tuple(read(Path(file), width) for file in files)


def _numbers(name: str) -> tuple[list[int], str]:
    return [int(number) for number in re.findall(r"\d+", name)], name


def _bias(state: Mapping[str, Tensor], weight: str) -> Tensor:
    bias = state.get(weight.removesuffix("weight") + "bias")
    return torch.zeros(len(state[weight])) if bias is None else bias.float()


def _metadata(path: Path) -> Mapping[str, str]:
    """What a safetensors file says of itself. Other files say nothing."""
    try:
        with safe_open(path, framework="pt") as opened:
            return opened.metadata() or {}
    except SafetensorError:
        return {}
