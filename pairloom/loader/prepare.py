"""From rows to batches: what makes the rows of any step ready, in whatever process, and what may be done otherwise."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, TypeVar

import numpy as np
import torch

from pairloom.errors import StoreError
from pairloom.loader.batch import Batch, Example, collate
from pairloom.loader.buffers import Empty
from pairloom.loader.mixture import Stream
from pairloom.loader.order import WHOLE, End, Steps, objective_at, packed, rank_slice, row_rng
from pairloom.loader.pair import Pair
from pairloom.loader.plan import Part
from pairloom.loader.reading import FIX, DamagedError
from pairloom.loader.row import Row
from pairloom.loader.rows import Captions, Rows
from pairloom.loader.texts import Texts
from pairloom.loader.tokenizer import Tokenizer
from pairloom.loader.workers import Facts, Job, Made
from pairloom.table import Array
from pairloom.typed import Positive, Range, check_ranges

Result = TypeVar("Result")


class Assembler(Protocol):
    """Makes examples of rows and batches of examples: `Make` by a recipe, columns.ColumnMake without one."""

    def length(self, row: Row) -> int:
        """Tokens and units of the row, for batches of so many tokens."""

    def ready(self, row: Row, objectives: Iterable[Part], rng: np.random.Generator) -> Any:
        """An example: the row made ready for these objectives."""

    def collate(self, examples: Sequence[Any], empty: Empty, dtype: str | None = None) -> Any:
        """A batch. Raises DamagedError where values that still lie in a shard are not what was written."""

    def in_bfloat16(self, batch: Any) -> Any:
        """The batch with its features in bfloat16, which numpy has not."""


@dataclass(frozen=True)
class Make:
    """Makes examples: tokens of a text, units of an image; augmented or not."""

    tokenizer: Tokenizer
    units: Part
    augment: bool
    second: Literal["none", "tags"] = "none"  # what follows a caption
    texts: Texts | None = None  # without images, for rows of text alone; None: their captions stand for such

    def pair(self, row: Row) -> Pair:
        """The row's own caption and image."""
        return Pair(row, row, row.text, row.tags() if self.second == "tags" else None)

    def length(self, row: Row) -> int:
        """Tokens of the row's own words, and units that differ in number."""
        pair = self.pair(row)
        count = getattr(self.units.module, "length", None)  # pixels have none
        units = 0 if count is None else count(row, self.units.settings)
        return len(self.tokenizer.words(pair.text, pair.second).ids_T) + int(units)

    def __call__(self, pair: Pair, rng: np.random.Generator) -> Example:
        """Nothing hidden yet. rng draws the augmentation."""
        units = self.units.module.load(pair.image, self.units.settings, rng if self.augment else None)
        words = self.tokenizer.words(pair.text, pair.second)
        return Example(pair.row.image_id, pair.row.caption_index, words, units, pair.mismatch, question=pair.question)

    def alone(self, example: Example, rng: np.random.Generator) -> Example:
        """The example with a text that has no image in its caption's place, if there are such texts."""
        return example if self.texts is None else replace(example, words=self.tokenizer.words(self.texts.draw(rng)))

    def ready(self, row: Row, objectives: Iterable[Part], rng: np.random.Generator) -> Example:
        """The row made ready for these objectives: first each says what goes together, then each what is hidden."""
        pair = self.pair(row)
        for part in objectives:
            if hasattr(part.module, "pair"):
                pair = part.module.pair(pair, part.settings, rng)
        example = self(pair, rng)
        for part in objectives:
            example = part.module.prepare(example, row, self, part.settings, rng)
        return example

    def collate(self, examples: Sequence[Example], empty: Empty, dtype: str | None = None) -> Batch:
        """The examples as a batch, padded by the tokenizer's id."""
        return collate(examples, self.tokenizer.pad, empty, dtype)

    def in_bfloat16(self, batch: Batch) -> Batch:
        """The batch with its regions' features in bfloat16."""
        if batch.regions is None:
            return batch
        features = batch.regions.features_BRD.to(torch.bfloat16)
        return replace(batch, regions=replace(batch.regions, features_BRD=features))


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a loader may do otherwise. order.Steps explains `end`, docs/loader.md all of it."""

    end: End = "join"
    shuffle: Literal["window", "full"] = "window"  # full: single rows in any order, for shards on a local disk
    window: Positive = 8  # row groups whose rows are mixed with each other
    max_tokens: Positive | None = None  # of a batch: rows × its longest row's; batch_size rows make several
    captions: Captions = "each"  # a row is an image with each of its captions, or with one drawn every epoch
    on_damage: Literal["refuse", "skip"] = "refuse"
    damage_budget: Annotated[int, Range(0)] = 3  # damaged row groups that `skip` bears
    dtype: Literal["float16", "float32", "bfloat16"] | None = None  # of the features; None: as stored
    pin: bool = False  # page-locked batches, for copies to a GPU that run beside the computing
    augment: bool = True
    ahead: Positive = 2  # batches that each worker has in work or ready, on average: more take more memory
    cache: Path | None = None  # folder for copies of remote shards
    split: str = "train"
    texts: Texts | None = None  # without images (texts.open_texts), for rows of text alone

    def __post_init__(self) -> None:
        check_ranges(self)


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
