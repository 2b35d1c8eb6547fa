"""From rows to batches: what makes the rows of any step ready, in whatever process."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch

from pairloom.loader.batch import Batch
from pairloom.loader.buffers import Empty
from pairloom.loader.damage import Places
from pairloom.loader.jobs import Facts, Job, Made
from pairloom.loader.make import Assembler, Make
from pairloom.loader.mixture import Spots, Stream
from pairloom.loader.options import Options
from pairloom.loader.order import WHOLE, LateGenerator, Steps, objective_at, rank_slice, row_rng
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

        def measure(name: str, place: int) -> tuple[int, int] | None:
            try:
                row, epoch = row_at(place)
                return self.make.lengths(row, self.kinds[name].values(), self._rng(row, epoch))
            except DamagedError:
                if options.on_damage == "refuse":
                    raise
                return None  # it is met again, and counted, by the rank that makes it ready

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
        places = Places(
            len(job.positions),
            lambda place: self.example(*row_at(place), job.objective),
            (self.seed, job.step),
            options.on_damage == "skip",
        )
        examples = [places.example(place) for place in job.own]
        self._read_ahead(spots)
        prepared, read_before = time.perf_counter(), self._read_s() - read
        batch = self._collated(examples, job, places, empty)
        if not job.real.all():
            batch = replace(batch, real_B=torch.from_numpy(job.real[job.own.start : job.own.stop]))
        reading, whole = self._read_s() - read, time.perf_counter() - began
        decode = prepared - began - read_before
        facts = Facts(reading, decode, whole - reading - decode, places.damaged)
        return Made(job, replace(batch, objective=job.objective), facts)

    def _read_s(self) -> float:
        """Seconds that this process has spent reading the folders."""
        return sum(rows.clock.read_s for rows in self.stream.parts)

    def _objective(self, step: int) -> str:
        ratios = [sum(part.ratio for part in parts.values()) for parts in self.kinds.values()]
        return objective_at(self.seed, step, list(self.kinds), ratios)

    def _objective_of_cut(self, run: int, number: int) -> str:
        return self._objective(run * self.steps.batch_size + number)

    def example(self, row: Row, epoch: int, name: str) -> Any:
        """The row made ready for a kind of step."""
        return self.make.ready(row, self.kinds[name].values(), self._rng(row, epoch))

    def _rng(self, row: Row, epoch: int) -> np.random.Generator:
        late: Any = LateGenerator(lambda: row_rng(self.seed, epoch, row.image_id, row.caption_index))
        generator: np.random.Generator = late
        return generator

    def _collated(self, examples: list[Any], job: Job, places: Places, empty: Empty) -> Any:
        dtype = None if self.options.dtype == "bfloat16" else self.options.dtype
        while True:
            if job.longest is not None:
                refuse_longer(examples, job.objective, *job.longest)
            try:
                return self.make.collate(examples, empty, dtype)
            except DamagedError as error:
                places.record(error)  # features are read this late: find those that cannot be
                if not places.drop_unreadable(lambda example: self.make.collate([example], np.empty)):
                    raise
                examples = [places.example(place) for place in job.own]

    def _read_ahead(self, spots: Spots) -> None:
        """When a batch enters a new window, ask for the row groups of the next one."""
        for part in np.unique(spots.part).tolist():
            last = np.flatnonzero(spots.part == part)[-1]
            order, rows = self.stream.orders[part], self.stream.parts[part]
            epoch = int(spots.epoch[last])
            number, coming = order.window_after(epoch, int(spots.group[last]))
            if self._hinted.get((part, epoch), -1) < number and self.stream.window:
                self._hinted.clear()
                self._hinted[part, epoch] = number
                for group in coming.tolist():
                    rows.will_need(group)


def held_out(
    rows: Rows, make: Make, kind: Mapping[str, Part], *, seed: int, batch_size: int, most_rows: int
) -> Iterator[Batch]:
    """The first rows of a split in one fixed order, made ready for one kind of step; the last batch may be short."""
    stream = Stream((rows,), seed, WHOLE)
    count = min(len(stream), most_rows)
    prepare = Prepare(stream, Steps(count, batch_size), make, {"": kind}, seed, 0, 1, Options())
    spots = stream.at(np.arange(count))
    for start in range(0, count, batch_size):
        chosen = range(start, min(start + batch_size, count))
        picked = [rows.at(int(spots.group[i]), int(spots.place[i])) for i in chosen]
        yield make.collate([prepare.example(row, 0, "") for row in picked], np.empty)
