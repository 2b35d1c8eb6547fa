"""Objective `drawn_words`: masked language modelling of words that another objective of the same step has hidden."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trainer.data.batch import Example
from trainer.objectives.mlm import Settings, columns, head, loss

if TYPE_CHECKING:
    from trainer.data.prepare import Make
    from trainer.data.row import Row

__all__ = ["Settings", "columns", "head", "loss", "prepare"]


def prepare(example: Example, row: Row, make: Make, settings: Settings, rng: np.random.Generator) -> Example:
    """Nothing more is hidden."""
    return example
