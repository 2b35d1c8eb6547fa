"""In which order rows are seen, and what chance each of them gets: functions of (seed, epoch, position) alone."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from schemas.table import Array

SHUFFLE, ROW, SCHEDULE = 1, 2, 3  # keep the streams of random numbers apart


@dataclass(frozen=True)
class Order:
    """Every row of every group once an epoch: the groups in random order, and in each group its rows.

    A group is what is read at a time (a shard). The order does not depend on batch size, workers or what was read
    before, so a run can go on anywhere.
    """

    seed: int
    sizes: tuple[int, ...]  # rows of each group
    _epochs: dict[int, tuple[Array, Array]] = field(default_factory=dict, repr=False)
    _groups: dict[tuple[int, int], Array] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return sum(self.sizes)

    def at(self, epoch: int, position: int) -> tuple[int, int]:
        """(group, row in it) at this position of the epoch, 0 ≤ position < len."""
        groups, ends = self._epoch(epoch)
        which = int(np.searchsorted(ends, position, side="right"))
        group = int(groups[which])
        start = int(ends[which]) - self.sizes[group]
        return group, int(self._group(epoch, group)[position - start])

    def _epoch(self, epoch: int) -> tuple[Array, Array]:
        if epoch not in self._epochs:
            groups = np.random.default_rng((SHUFFLE, self.seed, epoch)).permutation(len(self.sizes))
            _remember(self._epochs, epoch, (groups, np.cumsum(np.array(self.sizes)[groups])))
        return self._epochs[epoch]

    def _group(self, epoch: int, group: int) -> Array:
        key = (epoch, group)
        if key not in self._groups:
            rng = np.random.default_rng((SHUFFLE, self.seed, epoch, group + 1))
            _remember(self._groups, key, rng.permutation(self.sizes[group]))
        return self._groups[key]


def _remember(cache: dict, key: object, value: object, most: int = 4) -> None:  # type: ignore[type-arg]
    while len(cache) >= most:
        cache.pop(next(iter(cache)))
    cache[key] = value


def row_rng(seed: int, epoch: int, image_id: bytes, caption_index: int) -> np.random.Generator:
    """The random numbers of one row in one epoch: its masks, its negative, its crop."""
    return np.random.default_rng((ROW, seed, epoch, int.from_bytes(image_id, "big"), caption_index))


def objective_at(seed: int, step: int, names: tuple[str, ...], ratios: tuple[float, ...]) -> str:
    """The objective of a step, drawn by ratio."""
    if len(names) == 1:
        return names[0]
    shares = np.array(ratios, float) / sum(ratios)
    return names[int(np.random.default_rng((SCHEDULE, seed, step)).choice(len(names), p=shares))]
