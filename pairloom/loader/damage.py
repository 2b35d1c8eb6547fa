"""Damage among the rows of a batch: refused, or another row of the batch in the place of each damaged one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

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
    """The rows at the places of a global batch, tried when they are asked for.

    In the place of a damaged row comes the first good one in a random order of the batch's rows, which is a function of
    (seed, step, place): it is the same whichever rank has the place.
    """

    count: int  # of the global batch
    try_place: Callable[[int], object]  # reads all of the row at a place, raises DamagedError
    key: tuple[int, int]  # seed, step
    damaged: dict[str, str] = field(default_factory=dict)  # row group, or row -> what is wrong
    _known: dict[int, bool] = field(default_factory=dict)  # whether the row at a place is good

    def good(self, place: int) -> int:
        """This place, or the one whose row takes its row's. Raises StoreError if all of the batch's are damaged."""
        if self._is_good(place):
            return place
        for other in shuffled(self.count, REPLACE, *self.key, place).tolist():
            if self._is_good(other):
                return int(other)
        named = list(self.damaged)
        what = f"every row of a batch is damaged: {len(named)} row groups or rows, first {named[0]}"
        raise StoreError(what, named[0], FIX)

    def _is_good(self, place: int) -> bool:
        if place not in self._known:
            try:
                self.try_place(place)
                self._known[place] = True
            except DamagedError as error:
                self.damaged |= dict.fromkeys(error.places, error.args[0])
                self._known[place] = False
        return self._known[place]
