"""What becomes of the captions of duplicates: another row hands them to the one that stays, or they are lost."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from stages.curate.repeats import text_hash


class Captions:
    """Hashes of the captions of many rows; 8 bytes a caption and 8 a row."""

    def __init__(self) -> None:
        self._hashes = array("Q")
        self._ends = array("Q", [0])

    def add(self, captions: Iterable[Mapping[str, Any]]) -> None:
        """One row more, with its cleaned captions that pass the rules; text and language make a caption."""
        self._hashes.extend(text_hash(f"{caption['lang']}\n{caption['text']}") for caption in captions)
        self._ends.append(len(self._hashes))

    def of(self, row: int) -> Sequence[int]:
        return self._hashes[self._ends[row] : self._ends[row + 1]]


def lost(captions: Captions, stays: Sequence[int], united: Collection[int]) -> dict[int, list[int]]:
    """For each row with captions that are lost, their positions among its captions; each is lost once an image.

    stays: for each row the one that stays in its place, or its own position; united: rows that hand their captions
    over. A caption that the row that stays has anyway is not lost.
    """
    goes = [here for here, there in enumerate(stays) if here != there]
    known = {stays[here]: set(captions.of(stays[here])) for here in goes}
    for here in united:
        known[stays[here]].update(captions.of(here))
    found: dict[int, list[int]] = {}
    for here in goes:
        there = known[stays[here]]
        if gone := [place for place, caption in enumerate(captions.of(here)) if caption not in there]:
            found[here] = gone
            there.update(captions.of(here))
    return found
