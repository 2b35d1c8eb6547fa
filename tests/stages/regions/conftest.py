"""The shipped starter detector, loaded once, and scenes to run it on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from stages.regions import Config, Tools, setup
from stages.regions.starter.evaluate import scene


@pytest.fixture(scope="session")
def tools() -> Tools:
    torch.set_num_threads(1)  # as in the executor's workers
    return setup(Config(device="cpu"), Path())


@pytest.fixture(scope="session")
def pictures() -> list[Image.Image]:
    """Three scenes of different sizes, upright and lying."""
    return [Image.fromarray(scene(seed).image) for seed in (3, 0, 2)]
