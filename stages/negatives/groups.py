"""Which captions are searched together and get one list: those of an image, or those of one text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from stages.negatives.captions import Captions

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Groups:
    """Groups of queries, each a text that is looked for."""

    row: Array  # int64 (A,): the group of each caption asked for
    starts: Array  # int64 (G + 1,): group g looks for the documents[starts[g]:starts[g + 1]]
    documents: Array  # int64 (Q,), ascending within a group

    def __len__(self) -> int:
        return len(self.starts) - 1


def grouped(captions: Captions, asked: Array, clean: Array, against: Literal["image", "caption"]) -> Groups:
    """The groups of the captions with these numbers. clean: bool (A,), whether each wants captions to train on only.

    Captions of one text are one group, unless an image has several texts and `against` is "image": these are its own.
    """
    documents = captions.documents.astype(np.int64)
    keys = documents[asked]
    if against == "image":
        owners = captions.owners[asked]
        several = captions.texts_of_owner[owners] > 1
        keys = np.where(several, len(captions.copies) + owners, keys)
    _, first, row = np.unique(2 * keys + clean, return_index=True, return_inverse=True)
    chosen = asked[first]
    if against == "caption":
        return Groups(row, np.arange(len(chosen) + 1), documents[chosen])
    # All captions of each group's first image: for a group of one text they have that text.
    owner = captions.owners[chosen]
    low, high = (np.searchsorted(captions.owners, owner, side) for side in ("left", "right"))
    group, members = np.repeat(np.arange(len(chosen)), high - low), ranges(low, high)
    pairs = np.unique(group * max(len(captions.copies), 1) + documents[members])
    of, found = np.divmod(pairs, max(len(captions.copies), 1))
    return Groups(row, np.searchsorted(of, np.arange(len(chosen) + 1)), found)


def ranges(low: Array, high: Array) -> Array:
    """low[0] … high[0] - 1, low[1] … one after the other."""
    sizes = high - low
    whole: Array = np.arange(sizes.sum()) + np.repeat(low - (np.cumsum(sizes) - sizes), sizes)
    return whole
