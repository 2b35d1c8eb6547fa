"""Batches without a recipe: the named columns of each row, as they are stored, padded where rows differ in length."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from pairloom.errors import ConfigError, MissingColumnsError
from pairloom.layout import BLOBS
from pairloom.loader.batch import map_tensors
from pairloom.loader.buffers import Empty
from pairloom.loader.collate import filled, pad
from pairloom.loader.draws import Draws
from pairloom.loader.plan import Part
from pairloom.loader.row import Row
from pairloom.loader.stored import Stored
from pairloom.table import Array

ALWAYS = ("captions", "image_id")  # what a row is known by


@dataclass(frozen=True)
class ColumnExample:
    """The values of one row."""

    image_id: bytes
    caption_index: int
    text: str
    others: tuple[str, ...]
    values: Mapping[str, Any]


@dataclass(frozen=True)
class ColumnBatch:
    """The rows of one step, by column.

    columns: by name, a tensor where the column has numbers, else a tuple with one value a row. Numbers of differing
    length, such as boxes (B, R, 4), are padded with 0 at the end: `region_mask_BR` says which of a row are real.
    """

    image_ids: tuple[bytes, ...]
    caption_index_B: Tensor  # int64, which of the image's captions the row is about
    texts: tuple[str, ...]  # that caption, or what was drawn of it
    others: tuple[tuple[str, ...], ...] = ()  # further texts that were drawn of each row
    columns: Mapping[str, Any] = field(default_factory=dict)
    objective: str = ""
    real_B: Tensor | None = None  # bool, False: only fills up the epoch's last batch (end: pad) and should not count

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getitem__(self, column: str) -> Any:
        return self.columns[column]

    @property
    def region_mask_BR(self) -> Tensor:  # noqa: N802  # a tensor is named with its shape
        """(B, R) bool, False is padding. Raises KeyError where no column of regions was named."""
        return torch.from_numpy(filled(self["num_regions"].tolist())).to(self["num_regions"].device)

    def to(self, device: torch.device) -> ColumnBatch:
        """The same rows with every tensor on this device."""
        return map_tensors(self, lambda tensor: tensor.to(device, non_blocking=True))


@dataclass(frozen=True)
class ColumnMake:
    """Makes ColumnBatches. A row's values are read once, and vectors go from the file to their place in the batch."""

    names: tuple[str, ...]

    def columns(self) -> tuple[str, ...]:
        """Of the shards: the named columns, what a row is known by, and the lengths of its numbers."""
        lengths = {"num_regions" for name in self.names if name in BLOBS and "num_regions" in BLOBS[name].shape}
        return tuple(sorted({*self.names, *lengths, *ALWAYS}))

    @cached_property
    def _given(self) -> tuple[str, ...]:
        """What a batch has, worked out once and not for every row."""
        return tuple(name for name in self.columns() if name not in ALWAYS or name in self.names)

    def resizes(self, objectives: Iterable[Part]) -> bool:
        return False

    def lengths(self, objectives: Iterable[Part], draws: Draws) -> list[tuple[int, int]]:
        raise ConfigError("max_tokens counts tokens, which columns have none of", "the loader", "leave max_tokens out")

    def ready(self, objectives: Iterable[Part], draws: Draws) -> list[ColumnExample]:
        """The rows' values. Nothing is drawn."""
        return [self._of(row) for row in draws.rows]

    def _of(self, row: Row) -> ColumnExample:
        values = {name: _value(row, name) for name in self._given}
        return ColumnExample(row.image_id, row.caption_index, row.text, row.texts[1:], values)

    def collate(self, examples: Sequence[ColumnExample], empty: Empty, dtype: str | None = None) -> ColumnBatch:
        """dtype: numpy's name, of `features`. None leaves them as stored."""
        names = examples[0].values
        return ColumnBatch(
            image_ids=tuple(example.image_id for example in examples),
            caption_index_B=torch.tensor([example.caption_index for example in examples]),
            texts=tuple(example.text for example in examples),
            others=tuple(example.others for example in examples),
            columns={name: _collated(name, [one.values[name] for one in examples], empty, dtype) for name in names},
        )

    def in_bfloat16(self, batch: ColumnBatch) -> ColumnBatch:
        """The batch with its features in bfloat16, which numpy has not."""
        if "features" not in batch.columns:
            return batch
        return replace(batch, columns={**batch.columns, "features": batch["features"].to(torch.bfloat16)})


def _value(row: Row, name: str) -> Any:
    """Raises MissingColumnsError where numbers are null: the setting of the stage that makes them was off."""
    if name == "features":
        return row.stored(name)
    if name not in BLOBS:
        return row.value(name)
    if row.group.has_nulls(name):
        fix = "leave the column out, or make the shards again with the setting that fills it (docs/reference/tables.md)"
        raise MissingColumnsError(f"column {name} has no values", row.group.where, fix, (name,))
    return row.numbers(name)


def _collated(name: str, values: list[Any], empty: Empty, dtype: str | None) -> Any:
    if name in BLOBS:
        rows: list[Array | Stored] = values
        return pad(rows, 0, empty, dtype if name == "features" else None)
    if all(isinstance(value, int | float) for value in values):
        return torch.tensor(values)
    return tuple(values)
