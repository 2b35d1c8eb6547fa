"""ALIGN (arXiv:2102.05918), whose authors released no code, by that of coyo-align: both directions' losses."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from tests.systems.originals.drawn import Numbers, leaf, measured
from tests.systems.originals.in_torch import TF
from tests.systems.originals.taking import Originals

REPOSITORY, COMMIT = "kakaobrain/coyo-align", "14bdf5a073c962e8c4b47ea685cba75d5d218dac"
B, E, TEMPERATURE = 5, 6, 0.37


def given() -> dict[str, Tensor]:
    """What the towers give, of any length, and the temperature."""
    temperature = torch.tensor(TEMPERATURE, dtype=torch.float64, requires_grad=True)
    return {"images": leaf("images", B, E), "texts": leaf("texts", B, E), "temperature": temperature}


def run(folder: Path) -> tuple[Any, Numbers]:
    original = Originals(folder, REPOSITORY, COMMIT)
    original.put(tf=TF)
    original.take("align.py", "ALIGN.compute_loss")
    encoded = given()
    own = SimpleNamespace(temperature=encoded["temperature"])
    both = original.compute_loss(own, encoded["images"], encoded["texts"])
    return original.facts(), measured(sum(both).mean(), encoded)
