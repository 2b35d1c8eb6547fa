"""From rows to batches: the loader, which makes the same batches for any number of ranks and workers."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch

from schemas.errors import ConfigError, StoreError
from schemas.table import Array
from trainer import recipe as recipes
from trainer import tokenizer as tokenizers
from trainer.batch import Batch, Example, collate, map_tensors
from trainer.buffers import Empty
from trainer.contract import Pair
from trainer.mixture import Mixture, Stream, refuse_other_vocabularies
from trainer.order import WHOLE, End, Steps, objective_at, packed, random_bits, rank_slice, row_rng
from trainer.reading import CLOCK, FIX, DamagedError
from trainer.recipe import Part, Recipe
from trainer.row import Row
from trainer.rows import Captions, Rows, open_rows
from trainer.texts import Texts
from trainer.tokenizer import Tokenizer
from trainer.workers import Job, Made, Pool, made_here

Result = TypeVar("Result")


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


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a loader may do otherwise. order.Steps explains `end`, docs/loader.md all of it."""

    end: End = "join"
    shuffle: Literal["window", "full"] = "window"  # full: single rows in any order, for shards on a local disk
    window: int = 8  # row groups whose rows are mixed with each other
    max_tokens: int | None = None  # of a batch: rows × its longest row's; of batch_size rows, several batches are made
    captions: Captions = "each"  # a row is an image with each of its captions, or with one drawn every epoch
    on_damage: Literal["refuse", "skip"] = "refuse"
    damage_budget: int = 3  # damaged row groups that `skip` bears
    dtype: str | None = None  # of the features: float16, float32, bfloat16; null: as stored
    pin: bool = False  # page-locked batches, for copies to a GPU that run beside the computing
    augment: bool = True
    cache: Path | None = None  # folder for copies of remote shards
    split: str = "train"
    texts: Texts | None = None  # without images (texts.open_texts), for rows of text alone

    def __post_init__(self) -> None:
        if self.dtype not in (None, "float16", "float32", "bfloat16") or self.window < 1 or self.damage_budget < 0:
            raise ConfigError(
                f"dtype is {self.dtype}, window {self.window} and damage_budget {self.damage_budget}",
                where="the loader's options",
                fix="float16, float32, bfloat16 or None; a window from 1; a budget from 0",
            )


@dataclass(frozen=True)
class Prepare:
    """Makes the batch of any step, or this rank's part of it: a function of the step alone, in whatever process.

    With max_tokens, the rows of what is a step otherwise are cut into several batches: batch b of them is step
    step × batch_size + b.
    """

    stream: Stream
    steps: Steps
    make: Make
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
                positions, real = (part[self.mine(self.steps.batch_size)] for part in self.steps.at(step))
                yield Job(step, step + 1, positions, real)
        size = self.steps.batch_size
        for run in itertools.count(first // size):
            batches = self.twice(partial(self._packed, run))
            for number in range(first % size, len(batches)):
                after = run * size + number + 1 if number + 1 < len(batches) else (run + 1) * size
                positions = batches[number][self.mine(len(batches[number]))]
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
                _bear(error, {}, options)
                lengths.append(lengths[-1] if lengths else 1)  # among good rows, one of which takes its place
        assert options.max_tokens is not None
        return [positions[rows] for rows in packed(np.array(lengths), options.max_tokens, self.seed, run)]

    def _spots(self, positions: Array) -> Iterator[tuple[int, int, int, int]]:
        spots = self.stream.at(positions)
        columns = (spots.part, spots.epoch, spots.group, spots.place)
        return zip(*(column.tolist() for column in columns), strict=True)

    def mine(self, rows: int) -> slice:
        """This rank's part of a global batch of so many rows."""
        return rank_slice(rows, self.rank, self.ranks)

    def __call__(self, job: Job, empty: Empty) -> Made:
        """Raises DamagedError if rows are not what was written, or StoreError if all of a batch's are."""
        return self.twice(lambda options: self._made(job, empty, options))

    def twice(self, work: Callable[[Options], Result]) -> Result:
        """Do it; where only the copy of a remote shard may be damaged, once more from the source."""
        if any(rows.source.copies for rows in self.stream.parts):
            try:
                return work(replace(self.options, on_damage="refuse"))
            except DamagedError as error:
                for rows in self.stream.parts:
                    rows.forget(error.args[1])
        return work(self.options)

    def _made(self, job: Job, empty: Empty, options: Options) -> Made:
        began, read = time.perf_counter(), CLOCK["read_s"]
        name = self.objective(job.step)
        examples, damaged = self._examples(name, job.positions, options)
        prepared, read_before = time.perf_counter(), CLOCK["read_s"] - read
        batch = self._collate(examples, damaged, empty, options)
        if not job.real.all():
            batch = replace(batch, real_B=torch.from_numpy(job.real))
        reading, whole = CLOCK["read_s"] - read, time.perf_counter() - began
        decode = prepared - began - read_before
        facts = {"read_s": reading, "decode_s": decode, "collate_s": whole - reading - decode, "damaged": damaged}
        return Made(job, replace(batch, objective=name), facts)

    def objective(self, step: int) -> str:
        ratios = [sum(part.ratio for part in parts.values()) for parts in self.kinds.values()]
        return objective_at(self.seed, step, list(self.kinds), ratios)

    def _examples(self, name: str, positions: Array, options: Options) -> tuple[list[Example | None], dict[str, str]]:
        """(an example for each position, None where its row group is damaged; damaged row groups -> what is wrong)."""
        examples: list[Example | None] = []
        damaged: dict[str, str] = {}
        for part, epoch, group, place in self._spots(positions):
            try:
                row = self.stream.parts[part].at(group, place, self.seed, epoch)
                examples.append(self.example(row, name, epoch))
            except DamagedError as error:
                _bear(error, damaged, options)
                examples.append(None)
        self._read_ahead(self.stream.at(positions))
        return examples, damaged

    def example(self, row: Row, name: str, epoch: int) -> Example:
        rng = row_rng(self.seed, epoch, row.image_id, row.caption_index)
        return self.make.ready(row, self.kinds[name].values(), rng)

    def _collate(
        self, examples: list[Example | None], damaged: dict[str, str], empty: Empty, options: Options
    ) -> Batch:
        dtype = None if options.dtype == "bfloat16" else options.dtype
        try:
            return collate(_filled(examples, damaged), self.make.tokenizer.pad, empty, dtype)
        except DamagedError as error:
            _bear(error, damaged, options)
        for number, example in enumerate(examples):  # features are read this late: find those that cannot be
            try:
                if example is not None:
                    collate([example], self.make.tokenizer.pad)
            except DamagedError as error:
                _bear(error, damaged, options)
                examples[number] = None
        return collate(_filled(examples, damaged), self.make.tokenizer.pad, empty, dtype)

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


def _bear(error: DamagedError, damaged: dict[str, str], options: Options) -> None:
    if options.on_damage == "refuse":
        raise error
    damaged[error.args[1]] = error.args[0]


def _filled(examples: list[Example | None], damaged: Mapping[str, str]) -> list[Example]:
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


class Loader:
    """Batches for training on this rank; each of one objective, drawn by ratio.

    Which rows a global batch has, and their masks, negatives, captions and crops, are functions of (seed, step) alone
    for a given batch_size over all ranks: not of the number of ranks or workers, nor of what was read before. With
    Options.end `join` it goes on for ever; else each iteration is one epoch, the next one if the last was finished.

    shards: a folder or its address, a Mixture of them, or Rows. recipe: one of trainer/recipes, by name or loaded.
    tokenizer: without one, the recipe's is trained on the captions. workers: processes that make batches ahead.
    """

    def __init__(
        self,
        shards: Path | str | Mixture | Rows,
        recipe: str | Recipe,
        tokenizer: Tokenizer | None = None,
        *,
        seed: int = 0,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        workers: int = 0,
        options: Options = Options(),  # frozen
    ) -> None:
        recipe = recipes.load(recipe) if isinstance(recipe, str) else recipe
        if not 0 <= rank < world_size <= batch_size:
            raise ConfigError(
                f"rank {rank} of {world_size} with {batch_size} rows a batch",
                where="the loader",
                fix="batch_size counts the rows of all ranks: give each at least one",
            )
        window = WHOLE if options.shuffle == "full" else options.window
        mixture = shards if isinstance(shards, Mixture) else Mixture((shards,))  # type: ignore[arg-type]
        parts = tuple(_rows(part, recipe, options) for part in mixture.folders)
        stream = Stream(parts, seed, window, mixture.mix, batch_size)
        alone = options.texts.all() if options.texts else ()
        every = itertools.chain(*(part.texts() for part in parts), alone)
        tokenizer = tokenizer or tokenizers.train(every, recipe.text)
        steps = Steps(len(stream), batch_size, options.end)
        if len(parts) > 1 and options.end != "join":
            raise ConfigError(f"end is {options.end}", "the loader of a mixture", "set join: its folders end apart")
        make = Make(tokenizer, recipe.units, options.augment, recipe.text.second, options.texts)
        _check_budget(options, recipe, world_size)
        refuse_other_vocabularies(parts, recipe)
        self.prepare = Prepare(stream, steps, make, recipe.steps(), seed, rank, world_size, options)
        self.tokenizer, self.options, self.workers = tokenizer, options, workers
        self.step = 0
        self._pool: Pool | None = None
        self._batches: Iterator[Made] | None = None
        self._stats = {"batches": 0, "rows": 0, "read_s": 0.0, "decode_s": 0.0, "collate_s": 0.0, "starved_s": 0.0}
        self._damaged: dict[str, str] = {}

    def __len__(self) -> int:
        """Batches of an epoch. Raises TypeError where epochs share batches (end: join)."""
        per_epoch = self.prepare.steps.per_epoch()
        if per_epoch is None:
            raise TypeError("a loader with end: join has no length")
        return per_epoch

    def __iter__(self) -> Iterator[Batch]:
        per_epoch = self.prepare.steps.per_epoch()
        stop = None if per_epoch is None else (self.step // per_epoch + 1) * per_epoch
        while stop is None or self.step < stop:
            if self._batches is None:
                self._batches = iter(self.pool()) if self.workers else made_here(self.prepare, self.step)
            began = time.perf_counter()
            made = next(self._batches)
            self._count(made, time.perf_counter() - began)
            self.step = made.job.after
            yield self._finish(made.batch)

    def _count(self, made: Made, waited: float) -> None:
        # what no worker did ahead was waited for, too, but is told as reading, decoding and collating
        own = sum(made.facts[part] for part in ("read_s", "decode_s", "collate_s")) if self.workers == 0 else 0.0
        for name in ("read_s", "decode_s", "collate_s"):
            self._stats[name] += made.facts[name]
        self._stats["starved_s"] += max(waited - own, 0.0)
        self._stats["batches"] += 1
        self._stats["rows"] += len(made.batch)
        self._damaged |= made.facts["damaged"]
        if len(self._damaged) > self.options.damage_budget:
            raise StoreError(
                f"{len(self._damaged)} row groups are damaged, the budget is {self.options.damage_budget}: "
                + "; ".join(self._damaged.values()),
                where="; ".join(self._damaged),
                fix="rebuild the shards (`pairloom verify` says how), or raise damage_budget",
            )

    def _finish(self, batch: Batch) -> Batch:
        if self.options.dtype == "bfloat16" and batch.regions is not None:  # numpy has none
            features = batch.regions.features_BRD.to(torch.bfloat16)
            batch = replace(batch, regions=replace(batch.regions, features_BRD=features))
        return map_tensors(batch, lambda tensor: tensor.pin_memory()) if self.options.pin else batch

    def stats(self) -> dict[str, Any]:
        """What was handed out, and seconds: read, decode and collate in all processes, starved in the caller's.

        starved is waiting for workers; without workers it is what none of the others explains.
        """
        return {**self._stats, "damaged": dict(self._damaged)}

    def state_dict(self) -> dict[str, int]:
        """Where the stream is, counted by the batches that were handed out; the same on every rank."""
        steps = self.prepare.steps
        order = self.prepare.stream.fingerprint()
        if self.options.max_tokens is not None:
            order = int(random_bits(1, order, self.options.max_tokens).item()) >> 1
        return {"step": self.step, "seed": self.prepare.seed, "batch_size": steps.batch_size, "order": order}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on from there, with any number of ranks and workers; nothing that was consumed is read again.

        Raises ConfigError if seed, batch size, shards or settings of the order are others than the state's.
        """
        mine = self.state_dict()
        other = {key: (state[key], mine[key]) for key in ("seed", "batch_size", "order") if state[key] != mine[key]}
        if other:
            raise ConfigError(
                f"the state belongs to another order: {', '.join(f'{k} {a}, here {b}' for k, (a, b) in other.items())}",
                where="the loader's state",
                fix="resume with the same shards, mixture, seed, batch_size and window (ranks and workers may differ)",
            )
        self.close()
        self.step = state["step"]

    def metadata(self) -> dict[str, str]:
        """The file metadata of the (first) folder: vocabularies and widths."""
        return self.prepare.stream.parts[0].metadata()

    def close(self) -> None:
        """Stop the workers; iterating starts them again."""
        if self._pool is not None:
            self._pool.close()
        self._pool = self._batches = None

    def pool(self) -> Pool:
        """The workers, started if they are not."""
        if self._pool is None:
            self._pool = Pool(self.prepare, self.step, self.workers)
        return self._pool


def _rows(shards: Path | str | Rows, recipe: Recipe, options: Options) -> Rows:
    if isinstance(shards, Rows):
        return replace(shards, captions=options.captions, _readers={}, _open={})
    return open_rows(
        shards, options.split, recipe.columns(), recipe.text.languages, options.captions, cache=options.cache
    )


def _check_budget(options: Options, recipe: Recipe, ranks: int) -> None:
    """Raises ConfigError where a batch might have too few rows for all ranks."""
    if options.max_tokens is None:
        return
    longest = recipe.text.max_tokens + getattr(recipe.units.settings, "max_regions", 0)
    if options.max_tokens < 2 * ranks * longest or options.end != "join":
        raise ConfigError(
            f"max_tokens is {options.max_tokens} and end {options.end}",
            where=f"the loader of {ranks} ranks, with rows of up to {longest} tokens",
            fix=f"set max_tokens from {2 * ranks * longest} on (it counts all ranks), and end to join",
        )


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
        yield collate([prepare.example(row, "", 0) for row in picked], make.tokenizer.pad)
