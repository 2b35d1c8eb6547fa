"""What becomes of the captions of duplicates: another row hands them to the one that stays, or they are lost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from schemas.pairs import CAPTION
from stages.curate.columns import Array, Positions
from stages.curate.config import Config
from stages.curate.rules import Facts, dissimilar
from stages.curate.survivors import Items
from stages.curate.text import clean
from stages.gathered import opened
from stages.score import lookup

BLOCK = 1 << 17  # handed captions in memory, about, where they come from all shards
HANDED = pa.schema([("there", pa.int64()), ("here", pa.int64()), ("captions", pa.list_(CAPTION))])


def lost(captions: Items, gone: Positions, there: Positions, united: Array) -> tuple[Array, Array]:
    """(which of `gone`, place among its captions) of those that are lost, in order. Each is lost once an image.

    gone, there: the rows that go, ascending, and for each the one that stays in its place; united: which of them hand
    their captions over. captions: of both. A caption that the row that stays has anyway is not lost.
    """
    if not len(gone):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    own = np.minimum(np.searchsorted(gone, captions.positions), len(gone) - 1)
    goes = gone[own] == captions.positions
    image = np.where(goes, there[own], captions.positions)
    turn = np.where(goes & ~united[own], own, -1)  # what stays anyway comes first
    order = np.lexsort((turn, captions.hashes, image))
    image, hashes, turn = image[order], captions.hashes[order], turn[order]
    new = np.r_[True, (image[1:] != image[:-1]) | (hashes[1:] != hashes[:-1])][: len(order)]
    first = turn[np.flatnonzero(new)[np.cumsum(new) - 1]] if len(order) else turn
    found = np.sort(order[(turn >= 0) & (turn == first)])
    return own[found], captions.places[found]


@dataclass(frozen=True)
class Handing:
    """Rows of a shard that hand their captions over."""

    rows: list[int]
    here: list[int]  # their positions
    there: list[int]  # of the rows that get them
    config: Config
    similarity_floor: float | None  # of the shard


def captions_at(table: pa.Table, *score: pa.Table, argument: Handing) -> pa.Table:
    """HANDED of these rows of `download`, sorted; without the captions that stage `score` speaks against.

    What it says of a caption is known in the caption's own shard alone. The row's own reject has them all.
    """
    said = lookup.said(*score)
    order = np.lexsort((argument.here, argument.there))
    rows = table.take(pa.array(np.array(argument.rows, np.int64)[order])).to_pylist()
    captions = [_similar(row, said, argument) for row in rows]
    here, there = (np.array(each, np.int64)[order] for each in (argument.here, argument.there))
    return pa.table([pa.array(there), pa.array(here), pa.array(captions, pa.list_(CAPTION))], HANDED)


def _similar(row: dict[str, Any], said: lookup.Said, argument: Handing) -> list[dict[str, Any]]:
    known = said.similarity.get(row["image_id"], {})
    facts = Facts(0, 0, similarity=known, similarity_floor=argument.similarity_floor)
    return [one for one in row["captions"] if not dissimilar(clean(one["text"]), facts, argument.config)]


@dataclass
class Handed:
    """Captions that rows hand over, in files of `captions_at` by the shard that they come from."""

    files: Mapping[str, Path]
    within: bool  # only to rows of their own shard
    there: Positions  # of all that get some, ascending, once for each row that hands over
    _low: int = 0
    _high: int = 0
    _block: pa.Table = field(default_factory=HANDED.empty_table)  # what goes to positions from _low to below _high

    def to(self, shard: str, low: int, high: int) -> list[tuple[int, list[dict[str, object]]]]:
        """(position, captions) for a shard, whose positions are from `low` to below `high`. Shards come in order."""
        if self.within:
            found = opened(self.files[shard]) if shard in self.files else HANDED.empty_table()
        else:
            found = self._of_block(low, high)
        places, captions = found["there"].to_pylist(), found["captions"].to_pylist()
        return list(zip(places, captions, strict=True))

    def _of_block(self, low: int, high: int) -> pa.Table:
        if high > self._high:
            start = int(np.searchsorted(self.there, low))
            last = self.there[min(start + BLOCK, len(self.there)) - 1] if start < len(self.there) else low
            self._low, self._high = low, max(high, int(last) + 1)
            parts = [_between(opened(path), self._low, self._high) for path in self.files.values()]
            whole = pa.concat_tables([HANDED.empty_table(), *parts])
            order = np.lexsort((whole["here"].to_numpy(), whole["there"].to_numpy()))
            self._block = whole.take(pa.array(order))
        return _between(self._block, low, high)


def _between(table: pa.Table, low: int, high: int) -> pa.Table:
    start, stop = np.searchsorted(table["there"].to_numpy(), [low, high])
    return table.slice(int(start), int(stop - start))
