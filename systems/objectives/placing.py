"""Which crops of an image are drawn: at random, or first those that an objective of the same step asked for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pairloom.loader.examples import Examples
from pairloom.table import Array

WISHES = "aligned_R"  # the target that has a wish for each crop
DRAWN, SPARED = 1, -1  # to be drawn before the others, and after them


def wishes_of(examples: Examples) -> Sequence[Array | None]:
    """For the crops of each row. None: there are none."""
    return examples.targets.get(WISHES) or [None] * len(examples)


def preferred(wishes_R: Array | None, first: int, last: int, count: int, rng: np.random.Generator) -> Array:
    """(count,) int64, different crops of `first` to before `last`, counted from `first`, ascending."""
    order = rng.permutation(last - first)
    if wishes_R is not None:
        order = order[np.argsort(-wishes_R[first + order], kind="stable")]
    drawn: Array = np.sort(order[:count])
    return drawn
