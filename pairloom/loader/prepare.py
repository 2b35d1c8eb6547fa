"""From rows to batches: what makes the rows of any step ready, in whatever process."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, TypeVar

import numpy as np
import torch

from pairloom.loader.batch import Batch
from pairloom.loader.buffers import Empty
from pairloom.loader.damage import Places
from pairloom.loader.draws import Draws
from pairloom.loader.jobs import Facts, Job, Made
from pairloom.loader.make import Assembler, Make
from pairloom.loader.mixture import Spots, Stream
from pairloom.loader.options import Options
from pairloom.loader.order import WHOLE, Steps, objective_at, rank_slice
from pairloom.loader.packing import Cut, measured, packed, refuse_longer
from pairloom.loader.plan import Part
from pairloom.loader.reading import DamagedError
from pairloom.loader.row import Row
from pairloom.loader.rows import Rows
from pairloom.table import Array

Result = TypeVar("Result")


@dataclass(frozen=True)
class Prepare:
    """Makes the batch of any step, or this rank's part of it: a function of the step alone, in whatever process.

    With max_tokens, the rows of what is a step otherwise are cut into several batches: batch b of them is step
    step × batch_size + b.
    """

    stream: Stream
    steps: Steps
    make: Assembler
    kinds: Mapping[str, Mapping[str, Part]]  # of steps: the objectives of each
    seed: int
    rank: int
    ranks: int
    options: Options
    fewest: int = 1  # rows of a batch of so many tokens, unless the run has fewer
    _hinted: dict[tuple[int, int], int] = field(default_factory=dict, repr=False, compare=False)

    def jobs(self, first: int) -> Iterator[Job]:
        """What is to be made from this step on. Raises DamagedError if lengths cannot be read."""
        if self.options.max_tokens is None:
            for step in itertools.count(first):
                positions, real = self.steps.at(step)
                yield Job(step, step + 1, self._objective(step), positions, real, self._own(len(positions)))
        size = self.steps.batch_size
        for run in itertools.count(first // size):
            positions, _ = self.steps.at(run)
            cuts = self.with_refetch(partial(self._packed, run, positions))
            for number in range(first % size, len(cuts)):
                cut, after = cuts[number], number + 1
                after = run * size + after if after < len(cuts) else (run + 1) * size
                own, real = self._own(len(cut.rows)), np.ones(len(cut.rows), bool)
                longest = (cut.words, cut.units)
                yield Job(run * size + number, after, cut.objective, positions[cut.rows], real, own, longest)
            first = 0

    def _packed(self, run: int, positions: Array, options: Options) -> list[Cut]:
        """The batches of a run of rows."""
        assert options.max_tokens is not None
        row_at = self._row_at(self.stream.at(positions))

        def measure(name: str, places: Sequence[int]) -> list[tuple[int, int] | None]:
            try:
                return [*self.make.lengths(self.kinds[name].values(), self._draws(map(row_at, places)))]
            except DamagedError:
                if options.on_damage == "refuse":
                    raise
                if len(places) == 1:
                    return [None]  # it is met again, and counted, by the rank that makes it ready
                return [size for place in places for size in measure(name, [place])]

        lengths = measured(len(positions), measure, lambda name: self.make.resizes(self.kinds[name].values()))
        objective = partial(self._objective_of_cut, run)
        return packed(len(positions), lengths, objective, options.max_tokens, self.fewest, self.seed, run)

    def _row_at(self, spots: Spots) -> Callable[[int], tuple[Row, int]]:
        """What gives the row, and its epoch, of each of these spots."""
        columns = (column.tolist() for column in (spots.part, spots.epoch, spots.group, spots.place))
        found, parts = list(zip(*columns, strict=True)), self.stream.parts

        def row_at(number: int) -> tuple[Row, int]:
            part, epoch, group, place = found[number]
            return parts[part].at(group, place, self.seed, epoch), epoch

        return row_at

    def _own(self, rows: int) -> range:
        """This rank's part of a global batch of so many rows."""
        return range(rows)[rank_slice(rows, self.rank, self.ranks)]

    def __call__(self, job: Job, empty: Empty) -> Made:
        """Raises DamagedError if rows are not what was written, or StoreError if all of a batch's are."""
        return self.with_refetch(lambda options: self._made(job, empty, options))

    def with_refetch(self, work: Callable[[Options], Result]) -> Result:
        """What `work` gives; where it meets damage in copies of remote shards, it runs again on pieces fetched anew."""
        if any(rows.source.copies for rows in self.stream.parts):
            try:
                return work(replace(self.options, on_damage="refuse"))
            except DamagedError as error:
                for rows in self.stream.parts:
                    rows.forget(error.args[1])
        return work(self.options)

    def _made(self, job: Job, empty: Empty, options: Options) -> Made:
        began, read = time.perf_counter(), self._read_s()
        spots = self.stream.at(job.positions)
        row_at = self._row_at(spots)
        damaged: Mapping[str, str] = {}
        try:
            batch, prepared_s = self._collated(map(row_at, job.own), job, empty)
        except DamagedError:
            if options.on_damage == "refuse":
                raise
            places = Places(
                len(job.positions),
                lambda place: self._collated([row_at(place)], job, np.empty),
                (self.seed, job.step),
            )
            good = [places.good(place) for place in job.own]
            batch, prepared_s = self._collated(map(row_at, good), job, empty)
            damaged = places.damaged
        self._read_ahead(spots)
        if not job.real.all():
            batch = replace(batch, real_B=torch.from_numpy(job.real[job.own.start : job.own.stop]))
        reading, whole = self._read_s() - read, time.perf_counter() - began
        facts = Facts(reading, prepared_s, whole - reading - prepared_s, damaged)
        return Made(job, replace(batch, objective=job.objective), facts)

    def _read_s(self) -> float:
        """Seconds that this process has spent reading the folders."""
        return sum(rows.clock.read_s for rows in self.stream.parts)

    def _objective(self, step: int) -> str:
        return objective_at(self.seed, step, *self._ratios)

    @cached_property
    def _ratios(self) -> tuple[list[str], list[float]]:
        """The kinds of steps, and the ratio of each."""
        return list(self.kinds), [sum(part.ratio for part in parts.values()) for parts in self.kinds.values()]

    def _objective_of_cut(self, run: int, number: int) -> str:
        return self._objective(run * self.steps.batch_size + number)

    def _draws(self, rows: Iterable[tuple[Row, int]]) -> Draws:
        """Of these rows, each in its epoch."""
        found, epochs = zip(*rows, strict=True)
        return Draws(self.seed, found, epochs)

    def _collated(self, rows: Iterable[tuple[Row, int]], job: Job, empty: Empty) -> tuple[Any, float]:
        """(a batch of these rows, seconds that making them ready took beside reading)."""
        began, read = time.perf_counter(), self._read_s()
        examples = self.make.ready(self.kinds[job.objective].values(), self._draws(rows))
        prepared_s = time.perf_counter() - began - (self._read_s() - read)
        if job.longest is not None:
            refuse_longer(examples.lengths(), job.objective, *job.longest)
        dtype = None if self.options.dtype == "bfloat16" else self.options.dtype
        return self.make.collate(examples, empty, dtype), prepared_s

    def _read_ahead(self, spots: Spots) -> None:
        """When a batch enters a new window, ask for the row groups of the next one."""
        if not self.stream.window:
            return
        for part in np.unique(spots.part).tolist() if len(self.stream.parts) > 1 else [0]:
            last = np.flatnonzero(spots.part == part)[-1]
            order, rows = self.stream.orders[part], self.stream.parts[part]
            epoch = int(spots.epoch[last])
            number, coming = order.window_after(epoch, int(spots.group[last]))
            if self._hinted.get((part, epoch), -1) < number:
                self._hinted.clear()
                self._hinted[part, epoch] = number
                for group in coming.tolist():
                    rows.will_need(group)


def held_out(
    rows: Rows, make: Make, kind: Mapping[str, Part], *, seed: int, batch_size: int, most_rows: int
) -> Iterator[Batch]:
    """The first rows of a split in one fixed order, made ready for one kind of step. The last batch may be short."""
    stream = Stream((rows,), seed, WHOLE)
    count = min(len(stream), most_rows)
    spots = stream.at(np.arange(count))
    for start in range(0, count, batch_size):
        chosen = range(start, min(start + batch_size, count))
        picked = [rows.at(int(spots.group[i]), int(spots.place[i])) for i in chosen]
        yield make.collate(make.ready(kind.values(), Draws(seed, picked, [0] * len(picked))), np.empty)
