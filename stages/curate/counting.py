"""Counts over the corpus, shard by shard: captions of many images, the score of a top share, crowded images."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from stages.contract import Corpus
from stages.curate import repeats
from stages.curate.by_shard import Writing
from stages.curate.columns import PIECE, Array, Column, parted, pieces
from stages.curate.config import Config
from stages.curate.decisions import IMAGES, OF_A_SHARD, OF_AN_IMAGE, SHARDS
from stages.curate.facts import similarities_of
from stages.curate.rules import EXACT
from stages.gathered import fixed_bytes, lists_of, opened

ID = "V16"


@dataclass(frozen=True)
class Limits:
    """Of each shard: how often something may be there, counted as the settings say."""

    most: Array  # float64
    so_far: bool


@dataclass(frozen=True)
class PerShard:
    """Values of each shard, ascending. They may lie in a file."""

    values: Array
    starts: Array  # int64 (shards + 1,)

    def of(self, number: int) -> Array:
        return np.array(self.values[self.starts[number] : self.starts[number + 1]])


@dataclass(frozen=True)
class Counted:
    """What the corpus says of each shard, by its number."""

    repeated: PerShard | None  # uint64: hashes of captions that come too often
    floors: Sequence[float] | None  # scores below it are none of the top share
    similar: Sequence[float] | None  # nor are such similarities of the top share of captions
    crowded: PerShard | None  # V16: images with too many captions

    def repeated_of(self, number: int) -> Array:
        return np.empty(0, np.uint64) if self.repeated is None else self.repeated.of(number)

    def similarity_floor(self, number: int) -> float | None:
        return None if self.similar is None else self.similar[number]

    def crowded_of(self, number: int) -> Array:
        return np.empty(0, ID) if self.crowded is None else self.crowded.of(number)


def counted(files: Mapping[str, Path], corpus: Corpus, config: Config, room: Path, stack: ExitStack) -> Counted:
    """Count what the settings ask for. files: of each shard its facts (facts.SCHEMA); room: for files while `stack`."""
    so_far = config.counted == "so-far"
    counting = config.max_repeats is not None or config.max_repeat_share is not None
    floors = crowded = repeated = None
    if config.top_share is not None:
        scores = (opened(path)["score"].to_numpy() for path in files.values())
        floors = repeats.floors(scores, config.top_share, so_far)
    if config.max_image_captions is not None:
        limits = Limits(np.full(len(files), config.max_image_captions), so_far)
        crowded = _crowded(files, limits, room, stack)
    if counting:
        images = [len(opened(path)) for path in files.values()]
        limits = Limits(repeats.limits(images, config.max_repeats, config.max_repeat_share, so_far), so_far)
        repeated = _repeated(files, limits, room, stack)
    return Counted(repeated, floors, similarity_floors(corpus, config), crowded)


def similarity_floors(corpus: Corpus, config: Config) -> list[float] | None:
    """For each shard the similarity that `top_similarity` of all captions reach, or of those up to the shard's end.

    The first is exact: the least similarity that stays when exactly that share does, rounded up to a whole caption.
    The second is exact to the upper 16 bits of a float32 (`repeats.floors`). None if the setting is null.
    """
    if config.top_similarity is None:
        return None
    files = corpus.gathered({"score": ("similarity",)}, similarities_of, None)

    def shards() -> Iterator[Array]:
        return (opened(path)["similarity"].to_numpy() for path in files.values())

    if config.counted == "so-far":
        return repeats.floors(shards(), config.top_similarity, so_far=True)
    count = sum(map(len, shards()))
    wanted = max(math.ceil(config.top_similarity * count - EXACT), 1)
    return [repeats.largest(shards, wanted) if count else 0.0] * len(files)


def write(found: Counted, names: Sequence[str], folder: Path) -> None:
    """For `Decisions`, which looks up one shard."""
    shards, images = Writing(folder / SHARDS), Writing(folder / IMAGES)
    for number, name in enumerate(names):
        if any(each is not None for each in (found.repeated, found.floors, found.similar)):
            own = pa.array([found.repeated_of(number)], pa.large_list(pa.uint64()))
            floors = [None if found.floors is None else found.floors[number]], [found.similarity_floor(number)]
            shards.add(name, pa.table([own, *(pa.array(each, pa.float32()) for each in floors)], OF_A_SHARD))
        if len(ids := found.crowded_of(number)):
            images.add(name, pa.table([pa.array(map(bytes, ids), pa.binary(16))], OF_AN_IMAGE))
    shards.end()
    images.end()


def _repeated(files: Mapping[str, Path], limits: Limits, room: Path, stack: ExitStack) -> PerShard:
    """Of each shard the hashes that come too often."""
    hashes, ends = _column(stack, room / "hashes", np.uint64), np.zeros(len(files), np.int64)
    for number, path in enumerate(files.values()):
        hashes.add(lists_of(opened(path)["texts"])[0])
        ends[number] = len(hashes)
    found = _column(stack, room / "repeated", np.uint64), _column(stack, room / "repeated-of", np.int64)
    for places, keys in pieces(hashes.array(), room):
        shards = np.searchsorted(ends, places, side="right")
        over = repeats.over(keys, shards, None, limits.most, limits.so_far)
        _add_once(found, keys[over], shards[over])
    return _by_shard(found[0].array(), found[1].array(), len(files), room, stack)


def _crowded(files: Mapping[str, Path], limits: Limits, room: Path, stack: ExitStack) -> PerShard:
    """Of each shard the images that have too many captions, of all rows or (so-far) of those up to the shard's end."""
    ids, captions = _column(stack, room / "ids", ID), _column(stack, room / "num-captions", np.int32)
    ends = np.zeros(len(files), np.int64)
    for number, path in enumerate(files.values()):
        facts = opened(path)
        ids.add(fixed_bytes(facts["image_id"]))
        captions.add(facts["num_captions"].to_numpy())
        ends[number] = len(ids)
    found = _column(stack, room / "crowded", ID), _column(stack, room / "crowded-of", np.int64)
    for places, keys, counts in pieces(ids.array(), room, beside=[captions.array()]):
        shards = np.searchsorted(ends, places, side="right")
        _, same = np.unique(keys, return_inverse=True)
        over = repeats.over(same, shards, counts, limits.most, limits.so_far)
        _add_once(found, keys[over], shards[over])
    return _by_shard(found[0].array(), found[1].array(), len(files), room, stack)


def _column(stack: ExitStack, path: Path, kind: object) -> Column:
    column = Column(path, kind)
    stack.callback(column.close)
    return column


def _add_once(columns: tuple[Column, Column], values: Array, shards: Array) -> None:
    """Add these values and shards, equal ones once. They are all that there are of these values."""
    order = _order(values, shards)
    values, shards = values[order], shards[order]
    new = np.ones(len(values), np.bool_)
    new[1:] = (values[1:] != values[:-1]) | (shards[1:] != shards[:-1])
    columns[0].add(values[new])
    columns[1].add(shards[new])


def _order(values: Array, shards: Array) -> Array:
    """By shard, then by value."""
    if values.dtype.kind == "V":
        _, values = np.unique(values, return_inverse=True)
    return np.lexsort((values, shards))


def _by_shard(values: Array, shards: Array, number: int, room: Path, stack: ExitStack) -> PerShard:
    """Sort values by the shards that they are of, a range of shards in memory at a time."""
    parts = max(min(len(values) // PIECE, number, 1 << 16), 1)
    ordered, counts = _column(stack, room / f"by-shard-{values.dtype.kind}", values.dtype), np.zeros(number, np.int64)

    def part_of(places: slice) -> Array:
        return shards[places] * parts // max(number, 1)

    for _, own, of in parted([values, shards], part_of, parts, room):
        ordered.add(own[_order(own, of)])
        counts += np.bincount(of, minlength=number)
    return PerShard(ordered.array(), np.concatenate([[0], np.cumsum(counts)]))
