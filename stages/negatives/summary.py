"""What lists of hard negatives are like as a whole: how similar, how many short, which captions come most often."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pairloom.table import metadata
from stages.negatives.captions import one_chunk
from stages.negatives.frequent import KEY, Buckets, counted_among

Array = npt.NDArray[Any]
# of a Seen; of buckets those that are not empty
Counts: TypeAlias = tuple[int, int, Array, tuple[Array, Array], Counter[str]]

STEP = 0.05  # width of a bin of similarities
VETOED = "vetoed"  # key of a shard's metadata: veto -> how many captions it kept out of lists, as JSON
MOST = 10  # most frequent negatives that are named
# All that is counted, as Parquet names its columns: the texts are three quarters of a table and would only be skipped.
COUNTED = [f"negatives.list.element.list.element.{name}" for name in ("image_id", "caption_index", "similarity")]


@dataclass
class Seen:
    """What is counted in one look at all negatives."""

    captions: int = 0
    short: int = 0  # captions with fewer than top_k
    bins: Array = field(default_factory=lambda: np.zeros(0, np.int64))  # negatives by similarity
    buckets: Buckets = field(default_factory=Buckets)
    vetoed: Counter[str] = field(default_factory=Counter)  # what each veto kept out of lists

    def add(self, table: pa.Table) -> None:
        """columns short and negatives, which need no text here."""
        missing, negatives = _flat(table["short"]), _flat(table["negatives"])
        self.captions, self.short = self.captions + len(missing), self.short + _positive(missing)
        self.bins = _added(self.bins, _bins(negatives.field("similarity").to_numpy(zero_copy_only=False)))
        self.buckets.add(negatives)
        self.vetoed.update(json.loads(metadata(table).get(VETOED, "{}")))

    @classmethod
    def together(cls, parts: Iterable[Counts]) -> Seen:
        """What was seen in parts of a table."""
        whole = cls()
        for captions, short, bins, (numbers, times), vetoed in parts:
            whole.captions, whole.short = whole.captions + captions, whole.short + short
            whole.bins = _added(whole.bins, bins)
            whole.buckets.counts[numbers] += times
            whole.vetoed.update(vetoed)
        return whole


def seen_in(tables: Iterable[pa.Table], argument: None = None) -> Counts:
    """What is seen in a part of a table, to be sent from a worker."""
    seen = Seen()
    for table in tables:
        seen.add(table)
    numbers = np.flatnonzero(seen.buckets.counts)
    return seen.captions, seen.short, seen.bins, (numbers.astype(np.int32), seen.buckets.counts[numbers]), seen.vetoed


def counted_in(tables: Iterable[pa.Table], argument: Array) -> list[pa.Table]:
    """How often the captions of these buckets come in a part of a table."""
    return counted_among((_flat(table["negatives"]) for table in tables), argument)


def summarise(tables: Iterable[pa.Table], again: Callable[[], Iterable[pa.Table]]) -> dict[str, Any]:
    """Facts of tables with the columns negatives and short, an entry a caption or a list of entries an image.

    again: the tables once more. See `described`.
    """
    return described(Seen.together([seen_in(tables)]), lambda buckets: [counted_in(again(), buckets)], again)


def described(
    seen: Seen,
    counted: Callable[[Array], Iterable[list[pa.Table]]],
    with_texts: Callable[[], Iterable[pa.Table]],
) -> dict[str, Any]:
    """captions and negatives. Short and short_share; similarity_bins: from which value on (as text) how many;
    most_frequent: image_id (hex or as given), caption_index, text and times.

    counted: `counted_in` of all parts. with_texts: the tables, read until the few that are named are found.
    """
    bins = seen.bins
    best = seen.buckets.best(MOST, lambda buckets: chain.from_iterable(counted(buckets))) if bins.any() else []
    return {
        "captions": seen.captions,
        "negatives": int(bins.sum()),
        "short": seen.short,
        "short_share": round(seen.short / max(seen.captions, 1), 4),
        "similarity_bins": {f"{number * STEP:.2f}": int(bins[number]) for number in np.flatnonzero(bins)},
        "most_frequent": _named(best, with_texts()),
        **({"vetoed": dict(seen.vetoed)} if seen.vetoed else {}),
    }


def _positive(numbers: pa.Array) -> int:
    return int(pc.sum(pc.greater(numbers, 0)).as_py() or 0)


def _flat(column: pa.ChunkedArray) -> pa.Array:
    values = one_chunk(column)
    while pa.types.is_list(values.type):
        values = values.flatten()
    return values


def _bins(similarities: Array) -> Array:
    """How many similarities, which are not negative, lie in each bin, int64."""
    return np.bincount(np.floor(similarities / np.float32(STEP) + 1e-4).astype(np.int64))


def _added(one: Array, other: Array) -> Array:
    """The sum, as long as the longer one."""
    longer, shorter = (one, other) if len(one) >= len(other) else (other, one)
    total = longer.copy()
    total[: len(shorter)] += shorter
    return total


def _named(best: list[dict[str, Any]], tables: Iterable[pa.Table]) -> list[dict[str, Any]]:
    """These captions with their texts, found in tables of negatives."""
    unread, nameless = iter(tables), list(best)
    texts: dict[tuple[Any, int], str] = {}
    while nameless:
        negatives = _flat(next(unread)["negatives"])
        rows = [_find(negatives, caption) for caption in nameless]
        for caption, row in zip(nameless, rows, strict=True):
            if row >= 0:
                texts[caption["image_id"], caption["caption_index"]] = negatives.field("text")[row].as_py()
        nameless = [caption for caption, row in zip(nameless, rows, strict=True) if row < 0]
    return [
        {
            "image_id": image_id.hex() if isinstance(image_id, bytes) else image_id,
            "caption_index": caption_index,
            "text": texts[image_id, caption_index],
            "times": times,
        }
        for image_id, caption_index, times in (caption.values() for caption in best)
    ]


def _find(negatives: pa.StructArray, caption: dict[str, Any]) -> int:
    """Where the caption is first among the negatives, or -1."""
    columns = {name: negatives.field(name) for name in KEY}
    same = [pc.equal(column, pa.scalar(caption[name], column.type)) for name, column in columns.items()]
    row: int = pc.and_(*same).index(True).as_py()
    return row
