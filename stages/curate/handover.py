"""What becomes of the captions of duplicates: another row hands them to the one that stays, or they are lost."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stages.curate.columns import Column
from stages.curate.repeats import text_hash


class Captions:
    """Hashes of the captions of many rows; 8 bytes a caption and 8 a row, in two files of a folder."""

    def __init__(self, folder: Path) -> None:
        self._hashes = Column(folder / "hashes", np.uint64)
        self._ends = Column(folder / "ends", np.int64)

    def add(self, captions: Iterable[Mapping[str, Any]]) -> None:
        """One row more, with its cleaned captions that pass the rules; text and language make a caption."""
        self._hashes.add([text_hash(f"{caption['lang']}\n{caption['text']}") for caption in captions])
        self._ends.add([len(self._hashes)])

    def of(self, row: int) -> list[int]:
        ends = self._ends.array()
        found: list[int] = self._hashes.array()[ends[row - 1] if row else 0 : ends[row]].tolist()
        return found

    def close(self) -> None:
        self._hashes.close()
        self._ends.close()


def lost(captions: Captions, stays: Mapping[int, int], united: Collection[int]) -> dict[int, list[int]]:
    """For each row with captions that are lost, their positions among its captions; each is lost once an image.

    stays: for each row that goes the one that stays in its place, in order; united: rows that hand their captions
    over. A caption that the row that stays has anyway is not lost.
    """
    known = {there: set(captions.of(there)) for there in stays.values()}
    for here in united:
        known[stays[here]].update(captions.of(here))
    found: dict[int, list[int]] = {}
    for here, place in stays.items():
        there = known[place]
        if gone := [at for at, caption in enumerate(captions.of(here)) if caption not in there]:
            found[here] = gone
            there.update(captions.of(here))
    return found
