"""From rows to batches: the loader, which makes the same batches for any number of ranks and workers."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

from pairloom.errors import ConfigError, StoreError
from pairloom.loader.batch import Batch, map_tensors
from pairloom.loader.columns import ColumnBatch
from pairloom.loader.damage import over_budget
from pairloom.loader.drawing import Draw
from pairloom.loader.jobs import Made
from pairloom.loader.make import Assembler, Make
from pairloom.loader.mixture import Mixture, Stream, refuse_other_vocabularies
from pairloom.loader.opening import (
    column_make,
    fewest_rows,
    opened_rows,
    refuse_data_loader,
    refuse_resizing,
    trained_tokenizer,
)
from pairloom.loader.options import Options
from pairloom.loader.order import WHOLE, Steps
from pairloom.loader.plan import Part, Plan
from pairloom.loader.prepare import Prepare
from pairloom.loader.rows import Rows
from pairloom.loader.state import order_of, refuse_other_order
from pairloom.loader.tokenizer import Tokenizer
from pairloom.loader.workers import WorkerPool, made_here

BatchType = TypeVar("BatchType", Batch, ColumnBatch)


class Epoch(Iterator[BatchType]):
    """A loader's batches from where it is, up to this step; None: without end."""

    def __init__(self, loader: Loader[BatchType], stop: int | None) -> None:
        self._loader: Loader[BatchType] = loader
        self._stop = stop

    def __next__(self) -> BatchType:
        if self._stop is not None and self._loader.step >= self._stop:
            raise StopIteration
        return self._loader.next_batch()


class Loader(Generic[BatchType]):
    """Batches for training on this rank. Each of one objective, drawn by ratio.

    Which rows a global batch has, and their masks, negatives, captions and crops, are functions of (seed, step) alone
    for a given batch_size over all ranks: not of the number of ranks or workers, nor of what was read before. With
    Options.end `join` it has no end, else each iteration is one epoch, the next one if the last was finished.

    shards: a folder or its address, a Mixture of them, or Rows. plan: a recipe, which gives `Batch`. Without a plan,
    columns: the names of those that are wanted (docs/reference/tables.md), in captions of these languages, give
    `ColumnBatch`. draw: which texts each image has, as text.draw of a recipe says it.
    tokenizer: without one, the plan's is trained on the captions. workers: processes that make batches ahead.
    """

    @overload
    def __init__(
        self: Loader[Batch],
        shards: Path | str | Mixture | Rows,
        plan: Plan,
        tokenizer: Tokenizer | None = None,
        *,
        seed: int = 0,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        workers: int = 0,
        options: Options = Options(),  # noqa: B008  # frozen
    ) -> None: ...

    @overload
    def __init__(
        self: Loader[ColumnBatch],
        shards: Path | str | Mixture,
        *,
        columns: Sequence[str],
        languages: Sequence[str] = (),
        draw: Sequence[Draw] = (),
        seed: int = 0,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        workers: int = 0,
        options: Options = Options(),  # noqa: B008  # frozen
    ) -> None: ...

    def __init__(
        self,
        shards: Path | str | Mixture | Rows,
        plan: Plan | None = None,
        tokenizer: Tokenizer | None = None,
        *,
        columns: Sequence[str] = (),
        languages: Sequence[str] = (),
        draw: Sequence[Draw] = (),
        seed: int = 0,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        workers: int = 0,
        options: Options = Options(),  # noqa: B008  # frozen
    ) -> None:
        if not 0 <= rank < world_size <= batch_size:
            raise ConfigError(
                f"rank {rank} of {world_size} with {batch_size} rows a batch",
                where="the loader",
                fix="batch_size counts the rows of all ranks: give each at least one",
            )
        mixture = shards if isinstance(shards, Mixture) else Mixture((shards,))  # type: ignore[arg-type]
        if plan is None:
            columns_make = column_make(columns, options)
            make: Assembler = columns_make
            parts = tuple(
                opened_rows(part, columns_make.columns(), tuple(languages), options, tuple(draw))
                for part in mixture.folders
            )
            kinds: Mapping[str, Mapping[str, Part]] = {"": {}}
            fewest = 1
        else:
            read = tuple(plan.columns()) + options.strings  # each is a column, too
            parts = tuple(
                opened_rows(part, read, plan.text.languages, options, plan.text.draw) for part in mixture.folders
            )
            tokenizer = tokenizer or trained_tokenizer(parts, plan, options)
            make = Make(
                *(tokenizer, plan.units, options.augment, plan.text.second),
                *(options.strings, options.resize, options.texts),
            )
            refuse_resizing(plan, options)
            kinds = plan.steps()
            fewest = fewest_rows(options, plan, world_size)
            refuse_other_vocabularies(parts, plan)
        window = WHOLE if options.shuffle == "full" else options.window
        stream = Stream(parts, seed, window, mixture.mix, batch_size)
        steps = Steps(len(stream), batch_size, options.end)
        if len(parts) > 1 and options.end != "join":
            raise ConfigError(f"end is {options.end}", "the loader of a mixture", "set join: its folders end apart")
        self.prepare = Prepare(stream, steps, make, kinds, seed, rank, world_size, options, fewest)
        self.options, self.workers, self._tokenizer = options, workers, tokenizer
        self.step = 0
        self._pool: WorkerPool | None = None
        self._batches: Iterator[Made] | None = None
        self._failed: BaseException | None = None
        self._stats = {"batches": 0, "rows": 0, "read_s": 0.0, "decode_s": 0.0, "collate_s": 0.0, "starved_s": 0.0}
        self._damaged: dict[str, str] = {}

    def __len__(self) -> int:
        """Batches of an epoch. Raises TypeError where epochs share batches (end: join)."""
        per_epoch = self.prepare.steps.per_epoch()
        if per_epoch is None:
            raise TypeError("a loader with end: join has no length")
        return per_epoch

    def __bool__(self) -> bool:
        return True  # or Python would ask for the length, which not every loader has

    def __iter__(self) -> Iterator[BatchType]:
        refuse_data_loader()
        per_epoch = self.prepare.steps.per_epoch()
        return Epoch(self, None if per_epoch is None else (self.step // per_epoch + 1) * per_epoch)

    def next_batch(self) -> BatchType:
        """The batch of the next step, whatever epoch it is of. An error is raised again until `close` is called."""
        if self._failed is not None:
            raise self._failed
        try:
            if self._batches is None:
                self._batches = iter(self.pool()) if self.workers else made_here(self.prepare, self.step)
            began = time.perf_counter()
            made = next(self._batches)
            self._count(made, time.perf_counter() - began)
        except BaseException as error:
            self._failed = error
            raise
        self.step = made.job.after
        batch: BatchType = made.batch
        return self._finish(batch)

    def _count(self, made: Made, waited: float) -> None:
        # Without workers the caller waits for reading, decoding and collating, which have counts of their own.
        seconds = {"read_s": made.facts.read_s, "decode_s": made.facts.decode_s, "collate_s": made.facts.collate_s}
        own = sum(seconds.values()) if self.workers == 0 else 0.0
        for name, spent in seconds.items():
            self._stats[name] += spent
        self._stats["starved_s"] += max(waited - own, 0.0)
        self._stats["batches"] += 1
        self._stats["rows"] += len(made.batch)
        self._damaged |= made.facts.damaged
        ranks = self.prepare.ranks
        if over_budget(self._damaged, self.options.damage_budget, ranks):
            shared = f" for {ranks} ranks" if ranks > 1 else ""
            raise StoreError(
                f"{len(self._damaged)} row groups or rows are damaged, the budget is {self.options.damage_budget}"
                f"{shared}: " + "; ".join(dict.fromkeys(self._damaged.values())),
                where="; ".join(self._damaged),
                fix="rebuild the shards (`pairloom verify` says how), or raise damage_budget",
            )

    def _finish(self, batch: BatchType) -> BatchType:
        if self.options.dtype == "bfloat16":
            batch = self.prepare.make.in_bfloat16(batch)
        return map_tensors(batch, lambda tensor: tensor.pin_memory()) if self.options.pin else batch

    @property
    def tokenizer(self) -> Tokenizer:
        """What the plan's texts were made into tokens with. Raises ConfigError without a plan."""
        if self._tokenizer is None:
            raise ConfigError("a loader of columns has no tokenizer", "the loader", "pass a plan, such as a recipe")
        return self._tokenizer

    def stats(self) -> dict[str, Any]:
        """What was handed out, and seconds: read, decode and collate in all processes, starved in the caller's.

        starved is waiting for workers; without workers it is what none of the others explains.
        """
        return {**self._stats, "damaged": dict(self._damaged)}

    def state_dict(self) -> dict[str, int]:
        """Where the stream is, counted by the batches that were handed out. The same on every rank."""
        return {"step": self.step, **order_of(self.prepare)}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Resume from there, with any number of ranks and workers. Nothing that was consumed is read again.

        Raises ConfigError if seed, batch size, shards, `end` or settings of the order are others than the state's.
        """
        refuse_other_order(state, order_of(self.prepare))
        self.close()
        self.step = state["step"]

    def metadata(self) -> dict[str, str]:
        """The file metadata of the (first) folder: vocabularies and widths."""
        return self.prepare.stream.parts[0].metadata()

    def close(self) -> None:
        """Stop the workers. Iterating starts them again."""
        if self._pool is not None:
            self._pool.close()
        self._pool = self._batches = self._failed = None

    def pool(self) -> WorkerPool:
        """The workers, started if they are not."""
        if self._pool is None:
            self._pool = WorkerPool(self.prepare, self.step, self.workers, self.options.ahead)
        return self._pool
