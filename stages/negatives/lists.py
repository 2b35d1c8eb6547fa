"""Lists of hard negatives as Arrow structs, for some rows of a table of captions: put together, merged, cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.negatives import NEGATIVE
from stages.negatives.captions import one_chunk
from stages.negatives.matching import text_hashes
from stages.negatives.spread import Ranked, merge
from stages.negatives.table import fixed, listed
from stages.negatives.text import normalised

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Lists:
    """Hard negatives of some captions."""

    rows: Array  # int64 (captions,): which captions, ascending
    counts: Array  # int64 (captions,)
    negatives: pa.StructArray  # one list after the other

    @classmethod
    def nothing(cls) -> Lists:
        return cls(np.empty(0, np.int64), np.empty(0, np.int64), pa.array([], NEGATIVE))

    def of(self, chosen: Array) -> Lists:
        """Those of some of the captions (positions in `rows`, ascending)."""
        if len(chosen) == len(self.rows):
            return self
        starts = np.cumsum(self.counts) - self.counts
        counts = self.counts[chosen]
        begins = np.repeat(starts[chosen] - (np.cumsum(counts) - counts), counts)
        return Lists(self.rows[chosen], counts, self.negatives.take(pa.array(begins + np.arange(counts.sum()))))

    def last(self, top_k: int) -> Array:
        """The similarity of each list's last negative if it is full, else -1, float32."""
        values = np.append(similarities(self.negatives), np.float32(-1))
        return np.where(self.counts == top_k, values[np.cumsum(self.counts) - 1], -1).astype(np.float32)


def similarities(negatives: pa.StructArray) -> Array:
    values: Array = negatives.field("similarity").to_numpy(zero_copy_only=False)
    return values


def union(one: Lists, other: Lists, top_k: int, distinct: bool) -> Lists:
    """The best of both lists of the same captions, which have no negative in common. Image ids of 16 bytes."""
    ours, theirs = (
        Ranked(part.counts, similarities(part.negatives), _keys(part.negatives), _texts(part.negatives))
        for part in (one, other)
    )
    counts, places = merge(ours, theirs, top_k, distinct)
    both = pa.concat_arrays([one.negatives, other.negatives])
    return Lists(one.rows, counts, both.take(pa.array(places)))


def _keys(negatives: pa.StructArray) -> Array:
    """What decides ties, uint64 (negatives, 3): the image id in two halves, and the caption index."""
    ids = fixed(pa.chunked_array([negatives.field("image_id")]))
    keys = np.zeros((len(ids), 3), np.uint64)
    keys[:, :2] = ids.view(">u8").reshape(-1, 2)
    keys[:, 2] = negatives.field("caption_index").to_numpy(zero_copy_only=False)
    return keys


def _texts(negatives: pa.StructArray) -> Array:
    return text_hashes(normalised(negatives.field("text").cast(pa.large_string())))


def together(parts: Sequence[Lists], captions: int, kind: pa.DataType) -> pa.ListArray:
    """One list for each of that many captions, each of which is in one part at most."""
    counts = np.zeros(captions, np.int64)
    for part in parts:
        counts[part.rows] = part.counts
    if not parts:
        return listed(counts, pa.array([], kind))
    if len(parts) == 1:
        return listed(counts, parts[0].negatives)
    order = np.argsort(np.concatenate([np.repeat(part.rows, part.counts) for part in parts]), kind="stable")
    negatives = pa.concat_arrays([part.negatives for part in parts])
    return listed(counts, negatives.take(pa.array(order)))


def flat(lists: pa.Table, column: str, rows: Array) -> Lists:
    """The captions' lists of these rows of a table of images (column: list of lists), with their number among them."""
    images = one_chunk(lists[column])
    if not np.array_equal(rows, np.arange(len(images))):  # moving the texts costs as much as reading them
        images = images.take(pa.array(rows))
    captions = pc.list_flatten(images)
    counts = pc.list_value_length(captions).to_numpy(zero_copy_only=False).astype(np.int64)
    return Lists(np.arange(len(captions)), counts, pc.list_flatten(captions))
