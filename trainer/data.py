"""From rows to batches: the order in which they come, how each is made ready, and the state to go on from."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from trainer.batch import Batch, Example, collate
from trainer.order import Order, objective_at, row_rng
from trainer.recipe import Part
from trainer.rows import Row, Rows
from trainer.tokenizer import Tokenizer


@dataclass(frozen=True)
class Make:
    """Makes an example of a row: tokens of its text, units of its image; augmented or not."""

    tokenizer: Tokenizer
    units: Part
    augment: bool

    def __call__(
        self, row: Row, rng: np.random.Generator, *, text: str | None = None, image: Row | None = None
    ) -> Example:
        """The row's own text and image, or these instead. rng draws the augmentation."""
        units = self.units.module.load(image or row, self.units.settings, rng if self.augment else None)
        words = self.tokenizer.words(row.text if text is None else text)
        return Example(row.image_id, row.caption_index, words, units)


Item = tuple[int, str]  # position in the endless stream of rows, and the objective it is made ready for


class Prepared(Dataset[Example]):
    """The endless stream of rows, epoch after epoch, each made ready for an objective."""

    def __init__(self, rows: Rows, make: Make, objectives: Mapping[str, Part], seed: int) -> None:
        self.rows, self.make, self.objectives, self.seed = rows, make, dict(objectives), seed
        self.order = Order(seed, rows.sizes())

    def __getitem__(self, item: Item) -> Example:
        epoch, position = divmod(item[0], len(self.order))
        row = self.rows.at(*self.order.at(epoch, position))
        part = self.objectives[item[1]]
        rng = row_rng(self.seed, epoch, row.image_id, row.caption_index)
        example: Example = part.module.prepare(row, self.make, part.settings, rng)
        return example

    def batch(self, examples: list[Example]) -> Batch:
        return collate(examples, self.make.tokenizer.pad)


class Loader:
    """Batches for training, without end; one objective each, drawn by ratio.

    Which rows a batch has, and their masks, negatives and crops, are functions of (seed, position in the stream) alone:
    not of the number of workers, nor of what was read before. Every row comes once an epoch; a batch may hold the last
    rows of one epoch and the first of the next. The state is two integers.
    """

    def __init__(
        self, rows: Rows, make: Make, objectives: Mapping[str, Part], *, seed: int, batch_size: int, workers: int = 0
    ) -> None:
        self.prepared = Prepared(rows, make, objectives, seed)
        self.batch_size, self.workers, self.seed = batch_size, workers, seed
        self.names = tuple(objectives)
        self.ratios = tuple(part.ratio for part in objectives.values())
        self.step = self.seen = 0

    def __iter__(self) -> Iterator[tuple[str, Batch]]:
        loader: DataLoader[Example] = DataLoader(
            self.prepared,
            batch_sampler=self._items(self.step, self.seen),
            collate_fn=self.prepared.batch,
            num_workers=self.workers,
            generator=torch.Generator(),  # or it would draw from the global one, which is the model's
            multiprocessing_context="spawn" if self.workers else None,  # forking a process that has threads may hang
        )
        for batch in loader:
            name = self._objective(self.step)
            self.step, self.seen = self.step + 1, self.seen + len(batch)
            yield name, batch

    def state_dict(self) -> dict[str, int]:
        """Where the stream is, counted by the batches that were handed out."""
        return {"step": self.step, "seen": self.seen}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on from there; nothing that was consumed is read again."""
        self.step, self.seen = state["step"], state["seen"]

    def _objective(self, step: int) -> str:
        return objective_at(self.seed, step, self.names, self.ratios)

    def _items(self, step: int, seen: int) -> Iterator[list[Item]]:
        for number in itertools.count():
            start = seen + number * self.batch_size
            yield [(start + i, self._objective(step + number)) for i in range(self.batch_size)]


def held_out(
    rows: Rows, make: Make, name: str, part: Part, *, seed: int, batch_size: int, most_rows: int
) -> Iterator[Batch]:
    """The first rows of a split in one fixed order, made ready for one objective; the last batch may be short."""
    prepared = Prepared(rows, make, {name: part}, seed)
    count = min(len(prepared.order), most_rows)
    for start in range(0, count, batch_size):
        yield prepared.batch([prepared[i, name] for i in range(start, min(start + batch_size, count))])
