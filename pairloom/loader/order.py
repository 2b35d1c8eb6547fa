"""In which order rows are seen, and what chance each of them gets: functions of (seed, epoch, position) alone.

The permutations come from a hash of our own instead of a library's generator, so that no new version of a library can
change the order of a run that resumes. A changed order is a breaking change: it is pinned in
tests/pairloom/loader/order.json.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, Literal, get_args

import numpy as np
import xxhash
from numpy.random.bit_generator import ISeedSequence

from pairloom.errors import ConfigError
from pairloom.table import Array

# They keep the streams of random numbers apart.
GROUPS, WINDOW, ROW, SCHEDULE, CAPTION, MIXTURE, PACK, REPLACE, DRAWN = range(1, 10)
WHOLE = 0  # a window of all groups
GOLDEN, MIXING = 0x9E3779B97F4A7C15, ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))  # of SplitMix64

End = Literal["join", "drop", "pad", "repeat"]
ENDS: tuple[End, ...] = get_args(End)


def random_bits(count: int, *key: int) -> Array:
    """`count` random uint64, a function of the key: SplitMix64 (Steele et al. 2014) from a hashed start."""
    start = xxhash.xxh3_64_intdigest(np.array(key, "<i8").tobytes())
    mixed: Array = np.arange(1, count + 1, dtype=np.uint64)
    mixed *= np.uint64(GOLDEN)
    mixed += np.uint64(start)
    for shift, factor in MIXING:
        mixed ^= mixed >> np.uint64(shift)
        mixed *= np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)
    return mixed


def random_number(*key: int) -> int:
    """The first of `random_bits`: from 0, below 2**64. It takes a tenth of the time of an array of one."""
    mixed = (xxhash.xxh3_64_intdigest(struct.pack(f"<{len(key)}q", *key)) + GOLDEN) % 2**64
    for shift, factor in MIXING:
        mixed = (mixed ^ mixed >> shift) * factor % 2**64
    return mixed ^ mixed >> 31


def shuffled(count: int, *key: int) -> Array:
    """A random order of 0 … count − 1, a function of the key."""
    order: Array = np.argsort(random_bits(count, *key), kind="stable")
    return order


@dataclass(frozen=True)
class Order:
    """Every row of every group once an epoch, by two shuffles: of the groups, and of the rows within a window of them.

    A group is what is read at a time (a row group). Groups are put in random order and cut into windows. The rows of a
    window's groups are mixed with each other. Window 0 is all groups: a full permutation, for storage that does not
    mind. The order does not depend on batch size, ranks, workers or what was read before.
    """

    seed: int
    sizes: tuple[int, ...]  # rows of each group
    window: int = 8
    _epochs: dict[int, tuple[Array, Array]] = field(default_factory=dict, repr=False, compare=False)
    _windows: dict[tuple[int, int], tuple[Array, Array]] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return sum(self.sizes)

    def at(self, epoch: int, position: int) -> tuple[int, int]:
        """(group, row in it) at this position of the epoch, 0 ≤ position < len."""
        number, start = self._window_at(epoch, position)
        groups, rows = self._rows(epoch, number)
        return int(groups[position - start]), int(rows[position - start])

    def at_many(self, epochs: Array, positions: Array) -> tuple[Array, Array]:
        """The same for many, neighbours mostly of one window."""
        groups, rows = np.empty(len(positions), np.int64), np.empty(len(positions), np.int64)
        done = 0
        while done < len(positions):
            epoch, position = int(epochs[done]), int(positions[done])
            number, start = self._window_at(epoch, position)
            group_of, row_of = self._rows(epoch, number)
            inside = (epochs[done:] == epoch) & (positions[done:] >= start) & (positions[done:] < start + len(row_of))
            run = len(inside) if inside.all() else int(np.argmin(inside))
            places = positions[done : done + run] - start
            groups[done : done + run], rows[done : done + run] = group_of[places], row_of[places]
            done += run
        return groups, rows

    def window_after(self, epoch: int, group: int) -> tuple[int, Array]:
        """(number of the window that has this group, the groups of the next one), to be read ahead."""
        order, _ = self._epoch(epoch)
        width = self._width()
        number = int(np.flatnonzero(order == group)[0]) // width
        return number, order[(number + 1) * width : (number + 2) * width]

    def _width(self) -> int:
        return self.window or max(len(self.sizes), 1)

    def _window_at(self, epoch: int, position: int) -> tuple[int, int]:
        """(number of the window, position at which it starts)."""
        _, ends = self._epoch(epoch)
        number = int(np.searchsorted(ends, position, side="right"))
        return number, int(ends[number - 1]) if number else 0

    def _epoch(self, epoch: int) -> tuple[Array, Array]:
        """(the groups in order, position after each window)."""
        if epoch not in self._epochs:
            order = shuffled(len(self.sizes), GROUPS, self.seed, epoch)
            sums = np.cumsum(np.array(self.sizes, np.int64)[order])
            last = np.minimum(np.arange(1, -(-len(order) // self._width()) + 1) * self._width(), len(order)) - 1
            _remember(self._epochs, epoch, (order, sums[last]))
        return self._epochs[epoch]

    def _rows(self, epoch: int, number: int) -> tuple[Array, Array]:
        """(group, row in it) of each place of a window."""
        key = (epoch, number)
        if key not in self._windows:
            order, _ = self._epoch(epoch)
            chosen = order[number * self._width() : (number + 1) * self._width()]
            sizes = np.array(self.sizes, np.int64)[chosen]
            groups = np.repeat(chosen.astype(np.int32), sizes)
            rows = (np.arange(len(groups)) - np.repeat(np.cumsum(sizes) - sizes, sizes)).astype(np.int32)
            mixed = shuffled(len(groups), WINDOW, self.seed, epoch, number)
            _remember(self._windows, key, (groups[mixed], rows[mixed]))
        return self._windows[key]


def _remember(cache: dict, key: object, value: object, most: int = 3) -> None:  # type: ignore[type-arg]
    while len(cache) >= most:
        cache.pop(next(iter(cache)))
    cache[key] = value


@dataclass(frozen=True)
class Steps:
    """Which positions of the endless stream of epochs make the global batch of a step, and how an epoch ends.

    join: an epoch's last rows and the next one's first share a batch. Nothing is left out, nothing repeated.
    drop: what does not fill a batch is left out. pad: the last batch is filled with the epoch's first rows, which are
    marked and should not count. repeat: the same, unmarked.
    """

    rows: int
    batch_size: int  # over all ranks
    end: End = "join"

    def __post_init__(self) -> None:
        if self.batch_size < 1 or (self.end == "drop" and self.rows < self.batch_size):
            raise ConfigError(
                f"{self.rows} rows do not fill one batch of {self.batch_size}",
                "the loader",
                "set a smaller batch_size, or end to join, pad or repeat",
            )

    def per_epoch(self) -> int | None:
        """Batches of an epoch. None where epochs share batches."""
        if self.end == "join":
            return None
        return self.rows // self.batch_size if self.end == "drop" else -(-self.rows // self.batch_size)

    def at(self, step: int) -> tuple[Array, Array]:
        """(positions in the endless stream: epoch × rows + position in it, bool whether each counts)."""
        places = np.arange(self.batch_size, dtype=np.int64)
        per_epoch = self.per_epoch()
        if per_epoch is None:
            return step * self.batch_size + places, np.ones(self.batch_size, bool)
        epoch, number = divmod(step, per_epoch)
        positions = number * self.batch_size + places
        first = positions < self.rows
        return epoch * self.rows + positions % self.rows, first | (self.end == "repeat")


def rank_slice(batch_size: int, rank: int, world_size: int) -> slice:
    """The part of a global batch that is this rank's: neighbours, and parts of as equal size as can be."""
    return slice(batch_size * rank // world_size, batch_size * (rank + 1) // world_size)


def row_rng(seed: int, epoch: int, image_id: bytes, caption_index: int) -> np.random.Generator:
    """The random numbers of one row in one epoch: its masks, its negative, its crop."""
    key = xxhash.xxh3_128_intdigest(image_id + struct.pack("<4q", ROW, seed, epoch, caption_index))
    return np.random.Generator(np.random.Philox(_Key(key)))  # type: ignore[arg-type]  # numpy's hint forgets this kind


class LateGenerator:
    """A Generator that is made when something is drawn from it, since making it costs a tenth of a row of regions."""

    __slots__ = ("_made", "_make")

    def __init__(self, make: Callable[[], np.random.Generator]) -> None:
        self._make = make
        self._made: np.random.Generator | None = None

    def __getattr__(self, name: str) -> Any:
        if self._made is None:
            self._made = self._make()
        return getattr(self._made, name)


class _Key(ISeedSequence):
    """Philox(key=…) asks the system for randomness that it then ignores, which takes four times as long."""

    def __init__(self, key: int) -> None:
        self.key = key

    def generate_state(self, n_words: int, dtype: Any = np.uint32) -> Array:
        return np.array([self.key & (2**64 - 1), self.key >> 64], np.uint64)


def objective_at(seed: int, step: int, names: Sequence[str], ratios: Sequence[float]) -> str:
    """The objective of a step, drawn by ratio."""
    if len(names) == 1:
        return names[0]
    whole, drawn = sum(ratios), random_number(SCHEDULE, seed, step) / 2**64
    return names[bisect_right([end / whole for end in accumulate(map(float, ratios))], drawn)]
