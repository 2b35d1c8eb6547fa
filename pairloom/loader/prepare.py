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

from pairloom.errors import StoreError
from pairloom.loader.batch import Batch
from pairloom.loader.buffers import Empty
from pairloom.loader.jobs import Facts, Job, Made
from pairloom.loader.make import Assembler, Make
from pairloom.loader.mixture import Stream
from pairloom.loader.options import Options
from pairloom.loader.order import WHOLE, Steps, objective_at, packed, rank_slice, row_rng
from pairloom.loader.plan import Part
from pairloom.loader.reading import FIX, DamagedError
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
    _hinted: dict[tuple[int, int], int] = field(default_factory=dict, repr=False, compare=False)

    def jobs(self, first: int) -> Iterator[Job]:
        """What is to be made from this step on. Raises DamagedError if lengths cannot be read."""
        if self.options.max_tokens is None:
            for step in itertools.count(first):
                positions, real = (part[self.rank_slice(self.steps.batch_size)] for part in self.steps.at(step))
                yield Job(step, step + 1, positions, real)
        size = self.steps.batch_size
        for run in itertools.count(first // size):
            batches = self.with_refetch(partial(self._packed, run))
            for number in range(first % size, len(batches)):
                after = run * size + number + 1 if number + 1 < len(batches) else (run + 1) * size
                positions = batches[number][self.rank_slice(len(batches[number]))]
                yield Job(run * size + number, after, positions, np.ones(len(positions), bool))
            first = 0

    def _packed(self, run: int, options: Options) -> list[Array]:
        """The positions of each batch of a run of rows."""
        positions, _ = self.steps.at(run)
        lengths: list[int] = []
        for part, epoch, group, place in self._spots(positions):
            try:
                lengths.append(self.make.length(self.stream.parts[part].at(group, place, self.seed, epoch)))
            except DamagedError as error:
                record_or_raise(error, {}, options)
                lengths.append(lengths[-1] if lengths else 1)  # among good rows, one of which takes its place
        assert options.max_tokens is not None
        return [positions[rows] for rows in packed(np.array(lengths), options.max_tokens, self.seed, run)]

    def _spots(self, positions: Array) -> Iterator[tuple[int, int, int, int]]:
        spots = self.stream.at(positions)
        columns = (spots.part, spots.epoch, spots.group, spots.place)
        return zip(*(column.tolist() for column in columns), strict=True)

    def rank_slice(self, rows: int) -> slice:
        """This rank's part of a global batch of so many rows."""
        return rank_slice(rows, self.rank, self.ranks)

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
        name = self.objective(job.step)
        examples, damaged = self._examples(name, job.positions, options)
        prepared, read_before = time.perf_counter(), self._read_s() - read
        batch = self._collate(examples, damaged, empty, options)
        if not job.real.all():
            batch = replace(batch, real_B=torch.from_numpy(job.real))
        reading, whole = self._read_s() - read, time.perf_counter() - began
        decode = prepared - began - read_before
        facts = Facts(reading, decode, whole - reading - decode, damaged)
        return Made(job, replace(batch, objective=name), facts)

    def _read_s(self) -> float:
        """Seconds that this process has spent reading the folders."""
        return sum(rows.clock.read_s for rows in self.stream.parts)

    def objective(self, step: int) -> str:
        ratios = [sum(part.ratio for part in parts.values()) for parts in self.kinds.values()]
        return objective_at(self.seed, step, list(self.kinds), ratios)

    def _examples(self, name: str, positions: Array, options: Options) -> tuple[list[Any], dict[str, str]]:
        """(an example for each position, None where its row group is damaged; damaged row groups -> what is wrong)."""
        examples: list[Any] = []
        damaged: dict[str, str] = {}
        for part, epoch, group, place in self._spots(positions):
            try:
                row = self.stream.parts[part].at(group, place, self.seed, epoch)
                examples.append(self.example(row, name, epoch))
            except DamagedError as error:
                record_or_raise(error, damaged, options)
                examples.append(None)
        self._read_ahead(self.stream.at(positions))
        return examples, damaged

    def example(self, row: Row, name: str, epoch: int) -> Any:
        rng = row_rng(self.seed, epoch, row.image_id, row.caption_index)
        return self.make.ready(row, self.kinds[name].values(), rng)

    def _collate(self, examples: list[Any], damaged: dict[str, str], empty: Empty, options: Options) -> Any:
        dtype = None if options.dtype == "bfloat16" else options.dtype
        try:
            return self.make.collate(_filled(examples, damaged), empty, dtype)
        except DamagedError as error:
            record_or_raise(error, damaged, options)
        for number, example in enumerate(examples):  # features are read this late: find those that cannot be
            try:
                if example is not None:
                    self.make.collate([example], np.empty)
            except DamagedError as error:
                record_or_raise(error, damaged, options)
                examples[number] = None
        return self.make.collate(_filled(examples, damaged), empty, dtype)

    def _read_ahead(self, spots: Any) -> None:
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


def record_or_raise(error: DamagedError, damaged: dict[str, str], options: Options) -> None:
    """Note the row group as damaged, or raise the error, as the options say."""
    if options.on_damage == "refuse":
        raise error
    damaged[error.args[1]] = error.args[0]


def _filled(examples: list[Any], damaged: Mapping[str, str]) -> list[Any]:
    """Each damaged row's place taken by the next good one's, so that a batch keeps its size on every rank."""
    good = [example for example in examples if example is not None]
    if not good:
        raise StoreError(f"every row of a batch is damaged: {damaged}", ", ".join(damaged), FIX)
    if len(good) == len(examples):
        return good
    filled = []
    for number, example in enumerate(examples):
        following = (e for e in [*examples[number:], *examples] if e is not None)
        filled.append(next(following) if example is None else example)
    return filled


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
        yield make.collate([prepare.example(row, "", 0) for row in picked], np.empty)
