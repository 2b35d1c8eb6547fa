"""Damage among the rows of a batch: refused, or another row of the batch in the place of each damaged one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from pairloom.errors import StoreError
from pairloom.loader.order import REPLACE, shuffled
from pairloom.loader.reading import FIX, DamagedError


def over_budget(damaged: Iterable[str], budget: int, ranks: int) -> bool:
    """Whether one of several ranks has met more damage than its part of a run's budget.

    A row group whose small columns cannot be read is met by every rank that has rows of it, which in windows are all:
    so each counts it, and it counts once. A large value is read by the rank that has the row and no other, so a rank
    cannot know of the others': of what row groups leave of the budget each rank has an equal share, rounded up.
    """
    places = list(damaged)
    groups = len(places) - sum(_is_row(place) for place in places)
    share = -(-(budget - groups) // ranks)
    return groups > budget or len(places) - groups > share


def _is_row(where: str) -> bool:
    """Whether a place names a row, not a whole row group."""
    return ", row " in where.partition(", row group")[2]


@dataclass
class Places:
    """The examples at the places of a global batch, made when they are asked for.

    In the place of a damaged row comes the first good one in a random order of the batch's rows, which is a function of
    (seed, step, place): it is the same whichever rank has the place.
    """

    count: int  # of the global batch
    make: Callable[[int], Any]  # the example at a place; raises DamagedError
    key: tuple[int, int]  # seed, step
    skip: bool  # else damage is raised
    damaged: dict[str, str] = field(default_factory=dict)  # row group, or row -> what is wrong
    _known: dict[int, Any] = field(default_factory=dict)  # None: damaged

    def example(self, place: int) -> Any:
        """Of this place. Raises StoreError if all of the batch's rows are damaged."""
        found = self._tried(place)
        if found is not None:
            return found
        for other in shuffled(self.count, REPLACE, *self.key, place).tolist():
            if (found := self._tried(other)) is not None:
                return found
        named = list(self.damaged)
        what = f"every row of a batch is damaged: {len(named)} row groups or rows, first {named[0]}"
        raise StoreError(what, named[0], FIX)

    def _tried(self, place: int) -> Any | None:
        if place not in self._known:
            try:
                self._known[place] = self.make(place)
            except DamagedError as error:
                self.record(error)
                self._known[place] = None
        return self._known[place]

    def record(self, error: DamagedError) -> None:
        """Note what the error names as damaged, or raise it."""
        if not self.skip:
            raise error
        self.damaged |= dict.fromkeys(error.places, error.args[0])

    def drop_unreadable(self, read: Callable[[Any], object]) -> bool:
        """Take out the examples whose values cannot be read where they still lie in a shard; whether there were any."""
        found = False
        for place, example in self._known.items():
            try:
                if example is not None:
                    read(example)
            except DamagedError as error:
                self.record(error)
                self._known[place] = None
                found = True
        return found
