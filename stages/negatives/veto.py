"""Vetoes: which of the captions that the rule admits are no negatives after all, since they may well be true.

A veto is a pure function of a caption's image and a candidate. What it takes is counted, and the next most similar
captions move up: `mine_all_kept` mines deeper until a list is full or there are no more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from stages.negatives.hubs import first
from stages.negatives.mining import Neighbours

Array = npt.NDArray[Any]
# (positions of the captions asked for, ascending, and their candidates) -> bool of each candidate: whether it stays
Veto: TypeAlias = Callable[[Array, Neighbours], Array]
# (positions of some of the captions, ascending; how many negatives of each) -> what the rule admits, best first
Mine: TypeAlias = Callable[[Array, int], Neighbours]


@dataclass(frozen=True)
class Kept:
    """The hard negatives of some captions after all vetoes."""

    found: Neighbours
    vetoed: dict[str, Array]  # int64 (captions,): of each veto how many it took from among a list's negatives


def mine_all_kept(mine: Mine, captions: int, vetoes: Mapping[str, Veto], most: int) -> Kept:
    """As `mine` finds them, without what a veto takes. The first veto that takes a candidate has it counted."""
    kept = Kept(Neighbours.nothing(captions), {name: np.zeros(captions, np.int64) for name in vetoes})
    open_rows, depth = np.arange(captions), most
    while len(open_rows):
        depth += (depth + 1) // 2 if vetoes else 0
        found = mine(open_rows, depth)
        chosen, taken = _voted(open_rows, found, vetoes, most)
        full = (chosen.counts == most) | (found.counts < depth)
        kept = _replaced(kept, open_rows, chosen, taken)
        open_rows = open_rows[~full]
    return kept


def _voted(
    rows: Array, found: Neighbours, vetoes: Mapping[str, Veto], most: int
) -> tuple[Neighbours, dict[str, Array]]:
    """The first `most` of each list that all vetoes leave, and how many each veto took before them."""
    stays = np.ones(len(found.places), np.bool_)
    taken_by: dict[str, Array] = {}
    for name, veto in vetoes.items():
        passed = veto(rows, found)
        taken_by[name] = stays & ~passed
        stays &= passed
    of = np.repeat(np.arange(len(found.counts)), found.counts)
    before = np.concatenate([[0], np.cumsum(stays)])  # that stay, in all lists
    starts = np.cumsum(found.counts) - found.counts
    inside = before[:-1] - before[starts][of] < most
    taken = {name: np.bincount(of[took & inside], minlength=len(starts)) for name, took in taken_by.items()}
    return first(found, stays, most), taken


def _replaced(kept: Kept, rows: Array, chosen: Neighbours, taken: Mapping[str, Array]) -> Kept:
    """With these lists in place of those of the same rows."""
    old = np.ones(len(kept.found.counts), np.bool_)
    old[rows] = False
    of = np.repeat(np.arange(len(old)), kept.found.counts)
    stays = old[of]
    owner = np.concatenate([of[stays], np.repeat(rows, chosen.counts)])
    order = np.argsort(owner, kind="stable")
    places = np.concatenate([kept.found.places[stays], chosen.places])[order]
    similarities = np.concatenate([kept.found.similarities[stays], chosen.similarities])[order]
    for name, counts in taken.items():
        kept.vetoed[name][rows] = counts
    return Kept(Neighbours(np.bincount(owner, minlength=len(old)), places, similarities), kept.vetoed)
