"""A row group of a shard in memory: the small columns that a recipe names, and where its large values lie."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from pairloom.layout import BLOBS
from pairloom.loader.drawing import Draw
from pairloom.loader.order import CAPTION, random_bits
from pairloom.loader.reading import Heavy, ShardReader
from pairloom.loader.stored import Stored
from pairloom.table import Array


@dataclass(frozen=True)
class OpenGroup:
    """One row group in memory, with the small columns that the recipe names; its large values are read when used."""

    reader: ShardReader
    number: int
    table: pa.Table
    heavy: dict[str, Heavy]
    rows: Array  # row, in the group, of each of its (image, caption) rows
    captions: Array  # and its caption index
    draw: tuple[Draw, ...] = ()  # which texts a row has; none: its caption
    _columns: dict[Hashable, Any] = field(default_factory=dict, repr=False)

    @property
    def metadata(self) -> dict[str, str]:
        return self.reader.metadata

    @property
    def where(self) -> str:
        """The shard and the row group, for messages."""
        return self.reader.where(self.number)

    def has_nulls(self, column: str) -> bool:
        """Of a small column."""
        return bool(self.table[column].null_count)

    @cached_property
    def names(self) -> frozenset[str]:
        return frozenset((*self.table.column_names, *self.heavy))

    @cached_property
    def firsts(self) -> list[int]:
        """Of each image, the place of its first caption, and the number of places at the end."""
        starts = np.flatnonzero(self.rows[1:] != self.rows[:-1]) + 1
        return [0, *starts.tolist(), len(self.rows)]

    @cached_property
    def places(self) -> list[tuple[int, int]]:
        """(row in the group, caption index) of each of its (image, caption) rows: lists answer faster than arrays."""
        return list(zip(self.rows.tolist(), self.captions.tolist(), strict=True))

    @cached_property
    def kinds(self) -> list[str | None]:
        """Of each of its (image, caption) rows."""
        captions = self.table["captions"].combine_chunks()
        if captions.values.type.get_field_index("kind") < 0:  # shards of earlier versions
            return [None] * len(self.rows)
        starts = captions.offsets.to_numpy()
        kinds: list[str | None] = (
            captions.values.field("kind").take(pa.array(starts[self.rows] + self.captions)).to_pylist()
        )
        return kinds

    def draws(self, seed: int, epoch: int, group: int) -> list[int]:
        """Random bits for each image, from which its caption of the epoch follows."""
        images = len(self.firsts) - 1
        drawn: list[int] = self.cached(
            ("draws", seed, epoch), lambda: random_bits(images, CAPTION, seed, epoch, group).tolist()
        )
        return drawn

    def cells(self, column: str) -> list[Any]:
        """A small column as Python values: taking all at once costs less than a dozen Arrow scalars a row."""
        cells: list[Any] = self.cached(column, lambda: self.table[column].to_pylist())
        return cells

    def cell(self, column: str, row: int) -> Any:
        """An Arrow scalar."""
        return self.cached((column, "arrow"), lambda: self.table[column].combine_chunks())[row]

    def text(self, row: int, caption: int) -> str:
        def flat() -> tuple[list[int], list[str]]:
            column = self.table["captions"].combine_chunks()
            return column.offsets.to_pylist(), column.values.field("text").to_pylist()

        starts, texts = self.cached("texts", flat)
        text: str = texts[starts[row] + caption]
        return text

    def numbers(self, column: str, row: int) -> Array:
        """A blob as an array of its shape, read-only, not copied unless it is a large one."""
        if column in self.heavy:
            return np.asarray(self.stored(column, row))
        starts, content = self.cached((column, "bytes"), lambda: _flat(self.table[column].combine_chunks()))
        stored, shape = self._kind(column)
        flat: Array = content[starts[row] : starts[row + 1]].view(stored)
        return flat.reshape([size if isinstance(size, int) else size[row] for size in shape])

    def all_numbers(self, column: str) -> Array:
        """A small blob of all rows, one after the other: (sum of the rows' first sizes, further sizes), read-only."""
        starts, content = _flat(self.table[column].combine_chunks())
        stored, (_, *further) = self._kind(column)
        return content[starts[0] : starts[-1]].view(stored).reshape(-1, *further)

    def stored(self, column: str, row: int, most: int | None = None) -> Stored:
        """The first `most` vectors of a large blob, which stays in the shard until it is copied."""
        stored, shape = self._kind(column)
        rows, width = (size if isinstance(size, int) else size[row] for size in shape)
        scales = self.numbers("feature_scales", row) if stored.kind == "i" else None
        rows = rows if most is None else min(rows, most)
        return Stored(self.heavy[column], self.in_shard(row), rows, width, stored, scales)

    def image(self, row: int) -> bytes:
        return self.heavy["image"].value(self.in_shard(row))

    def url(self, row: int) -> str:
        """Read for a message alone."""
        found: str = self.reader.small(self.number, ["url"])["url"][row].as_py()
        return found

    def in_shard(self, row: int) -> int:
        return int(self.reader.starts[self.number]) + row

    def _kind(self, column: str) -> tuple[np.dtype[Any], list[int | list[int]]]:
        """(type of a blob's numbers, its shape: sizes of all rows, and lists with each row's own)."""

        def kind() -> tuple[np.dtype[Any], list[int | list[int]]]:
            blob = BLOBS[column]
            return blob.number(self.metadata), [self._size(size) for size in blob.shape]

        found: tuple[np.dtype[Any], list[int | list[int]]] = self.cached((column, "kind"), kind)
        return found

    def _size(self, size: int | str) -> int | list[int]:
        if isinstance(size, int):
            return size
        return int(self.metadata[size]) if size in self.metadata else self.cells(size)

    def cached(self, name: Hashable, make: Callable[[], Any]) -> Any:
        """What `make` returned the first time: made for all rows at once, it costs little a row."""
        if name not in self._columns:
            self._columns[name] = make()
        return self._columns[name]


def _flat(column: pa.Array) -> tuple[list[int], Array]:
    """(start of each value and the end, the bytes of all) of a large_binary array."""
    _, starts, content = column.buffers()
    numbers = np.frombuffer(starts, np.int64)[column.offset : column.offset + len(column) + 1]
    return numbers.tolist(), np.frombuffer(content or b"", np.uint8)
