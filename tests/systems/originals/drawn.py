"""Inputs by seed and name, and losses with their gradients as few numbers.

Shape letters: see pairloom/loader/batch.py.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

HERE = Path(__file__).parent
Numbers = dict[str, Any]


def numbers(name: str, *shape: int, scale: float = 1.0) -> Tensor:
    """Normal, float64. Each name has a generator of its own, so that no input depends on another."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    return torch.from_numpy(np.asarray(rng.standard_normal(shape) * scale))


def leaf(name: str, *shape: int, scale: float = 1.0) -> Tensor:
    """The same, to have a gradient."""
    return numbers(name, *shape, scale=scale).requires_grad_()


def whole(name: str, below: int, *shape: int) -> Tensor:
    """From 0 to before `below`, all equally likely."""
    return torch.from_numpy(np.random.default_rng(zlib.crc32(name.encode())).integers(0, below, shape))


def shares(name: str, *shape: int) -> Tensor:
    """Distributions over the last dimension."""
    return numbers(name, *shape).softmax(dim=-1)


def lengths(counts: list[int], most: int) -> Tensor:
    """(B, most) bool, the first so many of each row."""
    return torch.arange(most)[None, :] < torch.tensor(counts)[:, None]


def fill(module: nn.Module, names: Mapping[str, str], scale: float = 0.3) -> dict[str, Tensor]:
    """Draw the module's parameters by the names that `names` gives them, and return those. It becomes float64."""
    module.double()
    own = dict(module.named_parameters())
    assert own.keys() == names.keys(), sorted(own.keys() ^ names.keys())
    for name, drawn in names.items():
        with torch.no_grad():
            own[name].copy_(numbers(drawn, *own[name].shape, scale=scale))
    return {drawn: own[name] for name, drawn in names.items()}


def transform_names(theirs: str, drawn: str, dense: str = "dense", norm: str = "LayerNorm") -> dict[str, str]:
    """BERT's layer before a prediction."""
    parts = ((dense, "dense"), (norm, "norm"))
    return {f"{theirs}{one}.{kind}": f"{drawn}.{ours}.{kind}" for one, ours in parts for kind in ("weight", "bias")}


def measured(loss: Tensor, given: Mapping[str, Tensor | list[Tensor]]) -> Numbers:
    """The loss and, for each tensor, its gradient's norm and its product with a drawn direction.

    The gradients of a list are added: copies of what the original has once.
    """
    parts = {name: one if isinstance(one, list) else [one] for name, one in given.items()}
    gradients = iter(torch.autograd.grad(loss, [one for copies in parts.values() for one in copies]))
    found = {}
    for name, copies in parts.items():
        gradient = torch.stack([next(gradients) for _ in copies]).sum(dim=0)
        direction = numbers(f"direction of {name}", *gradient.shape)
        found[name] = [float(gradient.norm()), float((gradient * direction).sum())]
    return {"loss": float(loss.detach()), "gradients": found}


def expected(system: str) -> Numbers:
    """What the original gave."""
    read: Numbers = json.loads((HERE / f"{system}.json").read_text(encoding="utf-8"))["numbers"]
    return read


def agree(found: Any, wanted: Any, tolerance: float = 1e-9) -> None:
    """Every number within the tolerance, relative or absolute."""
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys()
        for name, value in wanted.items():
            agree(found[name], value, tolerance)
    else:
        assert found == pytest.approx(wanted, rel=tolerance, abs=tolerance)
