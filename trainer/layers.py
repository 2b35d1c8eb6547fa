"""Small layers that several objectives and models put on top of transformers' parts."""

from __future__ import annotations

from typing import TypeVar

from torch import nn

Module = TypeVar("Module", bound=nn.Module)


def transform(width: int, std: float) -> nn.Sequential:
    """What BERT puts before a prediction: a layer of the same width, GELU, norm."""
    return initialised(nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width, eps=1e-12)), std)


def initialised(module: Module, std: float) -> Module:
    """The module with BERT's starting weights: matrices normal with this deviation, biases zero."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            nn.init.normal_(part.weight, std=std)
        if isinstance(part, nn.Linear) and part.bias is not None:
            nn.init.zeros_(part.bias)
    return module
