"""How often each value comes in a dataset: counted shard by shard, of a large table in shards spread evenly over it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from inspection.columns import flat_list, struct_field
from inspection.dataset import Dataset
from inspection.spread import spread

STEP = 0.025  # width of a bin of similarities


@dataclass(frozen=True)
class Counts:
    """value → how often. Empty where the dataset has no such table."""

    sides: Counter[int] = field(default_factory=Counter)  # longer side, pixels
    characters: Counter[int] = field(default_factory=Counter)  # of a caption
    languages: Counter[str] = field(default_factory=Counter)  # of captions
    kinds: Counter[str] = field(default_factory=Counter)  # of captions: original, synthetic, region, …
    sources: Counter[str] = field(default_factory=Counter)  # of images
    regions: Counter[int] = field(default_factory=Counter)  # of an image
    tags: Counter[str] = field(default_factory=Counter)  # texts
    similarities: Counter[int] = field(default_factory=Counter)  # of negatives, in units of STEP
    short: Counter[int] = field(default_factory=Counter)  # negatives missing for a caption
    shares: dict[str, float] = field(default_factory=dict)  # of each stage's rows, which were counted


def count(found: Dataset, most: int | None = None) -> Counts:
    """Read the columns it takes, and no others; of no more shards of a table than `most`, by default spread.READ."""
    counts = Counts()
    for table in _tables(found, counts, "curate", ["width", "height", "captions", "source"], most):
        _add_pairs(counts, table)
    for table in _tables(found, counts, "regions", ["num_regions"], most):
        add(counts.regions, table["num_regions"].to_numpy())
    for table in _tables(found, counts, "tags", ["tags"], most):
        counts.tags.update(pc.struct_field(flat_list(table["tags"])[0], "text").to_pylist())
    for table in _tables(found, counts, "negatives", ["negatives", "short"], most):
        similarities = struct_field(flat_list(table["negatives"])[0], "similarity")
        add(counts.similarities, np.floor(similarities / STEP).astype(np.int64))
        add(counts.short, flat_list(table["short"])[0].to_numpy(zero_copy_only=False))
    return counts


def _tables(found: Dataset, counts: Counts, stage: str, columns: list[str], most: int | None) -> Iterator[pa.Table]:
    """Shards of the stage's table, or of `shards`, which has the same columns: all, or some spread evenly over them."""
    folder = found.tables.get(stage) or found.tables.get("shards")
    if folder:
        entries = spread(folder.shards, most)
        part = sum(entry.rows for entry in entries) / max(folder.rows, 1)
        counts.shares[stage] = part if len(entries) < len(folder.shards) else 1.0
        for entry in entries:
            yield folder.read(entry.name, columns)


def _add_pairs(counts: Counts, table: pa.Table) -> None:
    captions, _ = flat_list(table["captions"])
    add(counts.sides, np.maximum(table["width"].to_numpy(), table["height"].to_numpy()))
    add(counts.characters, pc.utf8_length(pc.struct_field(captions, "text")).to_numpy(zero_copy_only=False))
    columns = [(counts.languages, pc.struct_field(captions, "lang")), (counts.sources, table["source"])]
    if captions.type.get_field_index("kind") >= 0:  # tables of pairloom 0.1.0 have none
        columns.append((counts.kinds, pc.struct_field(captions, "kind")))
    for counter, column in columns:
        here = pc.value_counts(pc.fill_null(column, "unknown"))
        counter.update({item["values"]: item["counts"] for item in here.to_pylist()})


def add(counts: Counter[int], values: npt.NDArray[Any]) -> None:
    """Count whole numbers."""
    numbers, times = np.unique(values, return_counts=True)
    counts.update(dict(zip(numbers.tolist(), times.tolist(), strict=True)))
