"""Which crops of an image are drawn: at random, or first those that an objective of the same step asked for."""

from __future__ import annotations

import numpy as np

from pairloom.loader.batch import Example
from pairloom.table import Array

WISHES = "aligned_R"  # the target that has a wish for each crop
DRAWN, SPARED = 1, -1  # to be drawn before the others, and after them


def preferred(example: Example, first: int, last: int, count: int, rng: np.random.Generator) -> Array:
    """(count,) int64, different crops of `first` to before `last`, counted from `first`, ascending."""
    wishes = example.targets.get(WISHES, np.zeros(last, np.int64))[first:last]
    order = rng.permutation(last - first)
    drawn: Array = np.sort(order[np.argsort(-wishes[order], kind="stable")][:count])
    return drawn
