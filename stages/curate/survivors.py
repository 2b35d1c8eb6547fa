"""The rows that pass the rules by themselves, over all shards in list order: their numbers, in files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from stages.curate.columns import Array, Column, Positions
from stages.curate.counting import ID, Counted
from stages.gathered import fixed_bytes, lists_of, opened


@dataclass(frozen=True)
class Items:
    """Captions of some survivors, in order."""

    positions: Positions  # of the survivor
    places: Array  # among its captions that pass
    hashes: Array  # uint64: of text and language

    @classmethod
    def of(cls, parts: list[tuple[Array, Array, Array]]) -> Items:
        kinds = np.int64, np.int64, np.uint64
        columns = zip(*parts, strict=True) if parts else [(), (), ()]
        return cls(*(np.concatenate([np.empty(0, k), *each]) for k, each in zip(kinds, columns, strict=True)))


@dataclass(frozen=True)
class Survivors:
    """All of them but those that are excluded. A row's position is its place among them."""

    names: list[str]  # of the shards
    files: list[Path]  # of each its facts
    counted: Counted
    ends: Positions  # of each shard the position after its last
    rows: Array  # int32: of each its row in its shard
    image_ids: Array  # V16
    phashes: Array  # uint64. 0 of a pair without a picture
    pictured: Array  # bool
    excluded: tuple[Array, Array]  # shards and rows of those that are; both ascend

    def shards(self, positions: Positions) -> Array:
        """The numbers of their shards."""
        return np.searchsorted(self.ends, positions, side="right")

    def by_shard(self, positions: Positions) -> Iterator[tuple[int, Positions]]:
        """(a shard's number, those of these positions that are there). The positions ascend."""
        shards = self.shards(positions)
        starts = np.flatnonzero(np.diff(shards, prepend=-1))
        for start, stop in zip(starts.tolist(), [*starts.tolist(), len(shards)][1:], strict=True):
            yield int(shards[start]), positions[start:stop]

    def rows_of(self, positions: Positions) -> dict[str, list[int]]:
        """shard -> rows of these positions, which ascend."""
        return {self.names[number]: self.rows[own].tolist() for number, own in self.by_shard(positions)}

    def items(self, positions: Positions) -> Items:
        """The captions that pass, of these survivors."""
        found = []
        for number, own in self.by_shard(positions):
            passing = captions_of(opened(self.files[number]), self.counted, number)
            at = np.searchsorted(passing.positions, self.rows[own])
            counts = np.searchsorted(passing.positions, self.rows[own], side="right") - at
            taken = np.arange(counts.sum()) + np.repeat(at - (np.cumsum(counts) - counts), counts)
            found.append((np.repeat(own, counts), passing.places[taken], passing.hashes[taken]))
        return Items.of(found)


def captions_of(facts: pa.Table, counted: Counted, number: int) -> Items:
    """The captions that pass all rules, of the shard of this number, by row."""
    hashes, ends = lists_of(facts["captions"])
    rows, stays = np.repeat(np.arange(len(facts)), np.diff(ends)), np.ones(len(hashes), np.bool_)
    if len(repeated := counted.repeated_of(number)):
        stays &= ~np.isin(lists_of(facts["passing"])[0], repeated)
    if (floor := counted.similarity_floor(number)) is not None:
        stays &= lists_of(facts["similarity"])[0] >= np.float32(floor)
    rows, hashes = rows[stays], hashes[stays]
    starts = np.flatnonzero(np.diff(rows, prepend=-1))
    places = np.arange(len(rows)) - np.repeat(starts, np.diff(starts, append=len(rows)))
    return Items(rows, places, hashes)


def survivors(files: Mapping[str, Path], counted: Counted, room: Path, stack: ExitStack) -> Survivors:
    """Of the facts of all shards (facts.SCHEMA). What is found lies in files of `room` as long as the stack is open."""
    kinds = {"rows": np.int32, "image_ids": ID, "phashes": np.uint64, "pictured": np.bool_}
    columns = {name: Column(room / f"survivors-{name}", kind) for name, kind in kinds.items()}
    excluded = Column(room / "excluded-shards", np.int64), Column(room / "excluded-rows", np.int32)
    for column in (*columns.values(), *excluded):
        stack.callback(column.close)
    ends = np.zeros(len(files), np.int64)
    for number, path in enumerate(files.values()):
        facts = opened(path)
        passes, avoids = _passes(facts, counted, number), facts["excluded"].to_numpy()
        out = np.flatnonzero(passes & avoids)
        excluded[0].add(np.full(len(out), number))
        excluded[1].add(out)
        stay = np.flatnonzero(passes & ~avoids)
        columns["rows"].add(stay)
        columns["image_ids"].add(fixed_bytes(facts["image_id"])[stay])
        columns["phashes"].add(facts["phash"].to_numpy()[stay])
        columns["pictured"].add(facts["pictured"].to_numpy()[stay])
        ends[number] = len(columns["rows"])
    arrays = {name: column.array() for name, column in columns.items()}
    avoided_rows = excluded[0].array(), excluded[1].array()
    return Survivors(list(files), list(files.values()), counted, ends, **arrays, excluded=avoided_rows)


def _passes(facts: pa.Table, counted: Counted, number: int) -> Array:
    """Which rows pass the rules, those that count over the corpus too."""
    passes = facts["passes"].to_numpy()
    if counted.floors is not None:
        passes &= facts["score"].to_numpy().astype(np.float64) >= counted.floors[number]
    if len(crowded := counted.crowded_of(number)):
        passes &= ~np.isin(fixed_bytes(facts["image_id"]), crowded)
    if len(counted.repeated_of(number)) or counted.similar is not None:
        some = np.zeros(len(facts), np.bool_)
        some[captions_of(facts, counted, number).positions] = True
        passes &= some
    return np.asarray(passes)
