"""What is drawn of the rows of a batch: each row's random numbers are a function of (seed, epoch, row) alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from pairloom.loader.order import LateGenerator, row_rng
from pairloom.loader.row import Row


@dataclass(frozen=True)
class Draws:
    """Of these rows, each in its epoch."""

    seed: int
    rows: Sequence[Row]
    epochs: Sequence[int]

    @cached_property
    def rngs(self) -> list[np.random.Generator]:
        """A generator for each row. They go on from one objective to the next."""
        return [self._late(row, epoch) for row, epoch in zip(self.rows, self.epochs, strict=True)]

    def _late(self, row: Row, epoch: int) -> np.random.Generator:
        late: Any = LateGenerator(lambda: row_rng(self.seed, epoch, row.image_id, row.caption_index))
        generator: np.random.Generator = late
        return generator
