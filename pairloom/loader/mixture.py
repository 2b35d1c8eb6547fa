"""Several shards folders as one endless stream of rows: which folder and which row at each position, by arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from pairloom.errors import ConfigError
from pairloom.loader.order import Order, random_number
from pairloom.loader.plan import Plan
from pairloom.loader.rows import Rows
from pairloom.table import Array

CYCLE = 1000  # positions after which the pattern of folders repeats: shares are met to a thousandth

# What a column numbers is listed under this key of the file's metadata.
NUMBERED_BY = {"class_ids": "classes", "prob_ids": "classes", "attribute_ids": "attributes"}

By = Literal["proportion", "repeat", "temperature"]
How = Literal["stratified", "alternating"]


@dataclass(frozen=True, kw_only=True)
class Mix:
    """How much of each folder, and how it is spread.

    proportion: weights are shares of the rows seen, whatever the folders' sizes. repeat: a weight is how often a folder
    is seen for every time that a folder of weight 1 is. temperature: shares are rows ** (1 / temperature), so that
    small languages come more often (mBERT, XLM-R). Weights are not used.
    stratified: every batch has all folders by their share. alternating: a batch is of one folder.
    """

    by: By = "proportion"
    weights: tuple[float, ...] = ()
    temperature: float = 1.0
    how: How = "stratified"

    def shares(self, sizes: Sequence[int]) -> Array:
        """Of each folder, summing to 1. Raises ConfigError."""
        if self.by == "temperature":
            raw = np.array(sizes, float) ** (1 / self.temperature) if self.temperature > 0 else np.zeros(len(sizes))
        else:
            weights = np.array(self.weights or [1.0] * len(sizes))
            raw = weights * np.array(sizes, float) if self.by == "repeat" and len(weights) == len(sizes) else weights
        if len(raw) != len(sizes) or not (raw > 0).all():
            raise ConfigError(
                f"mixture weights {self.weights}, temperature {self.temperature} for {len(sizes)} folders",
                where="the loader's mix",
                fix="give each folder a weight above 0, and a temperature above 0",
            )
        shares: Array = raw / raw.sum()
        return shares


@dataclass(frozen=True)
class Spots:
    """Where the rows at some positions are: arrays of equal length."""

    part: Array  # folder
    epoch: Array  # of that folder
    group: Array
    place: Array


@dataclass(frozen=True)
class Stream:
    """The rows of one or more folders, without end."""

    parts: tuple[Rows, ...]
    seed: int
    window: int = 8
    mix: Mix = field(default_factory=Mix)
    batch_size: int = 1  # of a batch that alternates

    def __len__(self) -> int:
        return int(self._lengths.sum())

    @cached_property
    def _lengths(self) -> Array:
        """Rows of each folder, int64."""
        return np.array([len(order) for order in self.orders])  # each adds up all of its row groups

    @cached_property
    def orders(self) -> tuple[Order, ...]:
        seeds = [self.seed + (number << 32) for number in range(len(self.parts))]
        return tuple(Order(seed, rows.sizes(), self.window) for seed, rows in zip(seeds, self.parts, strict=True))

    @cached_property
    def _cycle(self) -> tuple[Array, Array, Array]:
        """(folder of each position of the cycle, how often it came before in the cycle, how often in all)."""
        counts = _whole(self.mix.shares(self._lengths.tolist()), max(CYCLE, len(self.parts)))
        when = np.concatenate([(np.arange(count) + 0.5) / count for count in counts])  # spread evenly
        part = np.repeat(np.arange(len(counts)), counts)[np.argsort(when, kind="stable")]
        before = np.zeros(len(part), np.int64)
        for number, count in enumerate(counts):
            before[part == number] = np.arange(count)
        return part, before, counts

    def at(self, positions: Array) -> Spots:
        """Where the rows at these positions are."""
        if len(self.parts) == 1:
            epoch, position = np.divmod(positions, self._lengths[0])
            return Spots(np.zeros(len(positions), np.int64), epoch, *self.orders[0].at_many(epoch, position))
        pattern, before, counts = self._cycle
        block = self.batch_size if self.mix.how == "alternating" else 1
        turn, within = np.divmod(positions, block)
        cycle, place = np.divmod(turn, len(pattern))
        part = pattern[place]
        index = (cycle * counts[part] + before[place]) * block + within
        epoch, position = np.divmod(index, self._lengths[part])
        group, row = np.empty(len(part), np.int64), np.empty(len(part), np.int64)
        for number in np.unique(part):
            places = np.flatnonzero(part == number)
            group[places], row[places] = self.orders[number].at_many(epoch[places], position[places])
        return Spots(part, epoch, group, row)

    def fingerprint(self) -> int:
        """63 bits that change if the order does: the groups' sizes, the windows, the mixture."""
        numbers = [self.seed, self.window, len(self.parts), *(size for order in self.orders for size in order.sizes)]
        if len(self.parts) > 1:
            numbers += [*self._cycle[2].tolist(), self.batch_size if self.mix.how == "alternating" else 1]
        return random_number(*numbers) >> 1


def _whole(shares: Array, total: int) -> Array:
    """Whole numbers, at least 1 each, that sum to the total and are nearest to the shares (largest remainders)."""
    counts: Array = np.maximum(np.floor(shares * total), 1).astype(np.int64)
    while counts.sum() != total:
        short = shares * total - counts
        step = 1 if counts.sum() < total else -1
        counts[np.argmax(np.where(counts + step >= 1, step * short, -np.inf))] += step
    return counts


@dataclass(frozen=True)
class Mixture:
    """Shards folders to be mixed, for `Loader`."""

    folders: tuple[Path | str, ...]
    mix: Mix = field(default_factory=Mix)


def refuse_other_vocabularies(folders: Sequence[Rows], plan: Plan) -> None:
    """Raises ConfigError where folders number other classes, attributes or answers: one head cannot serve them all."""
    if len(folders) == 1:
        return
    keys = {NUMBERED_BY[column] for column in plan.columns() if column in NUMBERED_BY} | plan.numbered_by()
    other = sorted(key for key in keys if len({rows.metadata().get(key) for rows in folders}) > 1)
    if other:
        raise ConfigError(
            f"the folders number different {' and '.join(other)}",
            where="the loader of a mixture",
            fix="make both with one detector and the same qa.answers, or take a recipe that does not learn these",
        )
