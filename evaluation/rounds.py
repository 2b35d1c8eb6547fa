"""Batches of a file's examples: each example once an epoch, in an order of its own, shared among ranks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from evaluation.examples import Example, batch_of
from evaluation.gallery import Gallery
from pairloom.loader.batch import Batch


@dataclass(frozen=True)
class Place:
    """This process among those that train together."""

    rank: int = 0
    ranks: int = 1


@lru_cache(maxsize=1)
def _order(seed: int, epoch: int, count: int) -> npt.NDArray[np.int64]:
    """The examples of an epoch, which all of its steps share."""
    return np.random.default_rng([seed, epoch]).permutation(count)


@dataclass
class Rounds:
    """What trainer.optimise.run reads. The last examples of an epoch that fill no batch are left out.

    size: examples of a batch of all ranks, of which this one makes every so many-th. step: batches that were given.
    """

    gallery: Gallery
    examples: Sequence[Example]
    objective: str
    size: int
    seed: int
    prepare: Place = Place()
    step: int = 0

    def __iter__(self) -> Iterator[Batch]:
        while True:
            self.step += 1
            yield self.batch(self.step - 1)

    def batch(self, step: int) -> Batch:
        """This rank's part of the batch of a step."""
        epoch, places = self.places(step)
        examples = [self.examples[place] for place in places]
        return replace(batch_of(self.gallery, examples, self.seed, epoch), objective=self.objective)

    def places(self, step: int) -> tuple[int, list[int]]:
        """(the epoch, which examples are this rank's) of a step."""
        size = min(self.size, len(self.examples))
        epoch, number = divmod(step, len(self.examples) // size)
        order = _order(self.seed, epoch, len(self.examples))
        own: list[int] = order[number * size : (number + 1) * size][self.prepare.rank :: self.prepare.ranks].tolist()
        return epoch, own

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step = int(state["step"])
