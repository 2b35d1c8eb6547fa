"""A row group of a shard in memory: the small columns that a recipe names, and where its large values lie."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pairloom.layout import BLOBS
from pairloom.loader.drawing import Draw
from pairloom.loader.order import CAPTION, random_bits
from pairloom.loader.reading import Heavy, ShardReader
from pairloom.loader.stored import Stored
from pairloom.table import Array


@dataclass(frozen=True)
class OpenGroup:
    """One row group in memory, with the small columns that the recipe names. Its large values are read when used."""

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

    def drawn(self, seed: int, epoch: int, group: int) -> list[int]:
        """Of each image, the place of its caption of the epoch."""

        def draw() -> list[int]:
            firsts = np.array(self.firsts, np.uint64)
            bits = random_bits(len(firsts) - 1, CAPTION, seed, epoch, group)
            places: list[int] = (firsts[:-1] + bits % np.diff(firsts)).astype(int).tolist()
            return places

        found: list[int] = self.cached(("drawn", seed, epoch), draw)
        return found

    def cells(self, column: str) -> list[Any]:
        """A small column as Python values: taking all at once costs less than a dozen Arrow scalars a row."""
        known: list[Any] | None = self._columns.get(column)
        if known is not None:  # asked several times a row: no function is made for it
            return known
        cells: list[Any] = self.cached(column, lambda: self.table[column].to_pylist())
        return cells

    def cell(self, column: str, row: int) -> Any:
        """An Arrow scalar."""
        return self.cached((column, "arrow"), lambda: self.table[column].combine_chunks())[row]

    def text(self, row: int, caption: int) -> str:
        starts, texts = self._texts
        return texts[starts[row] + caption]

    @cached_property
    def _texts(self) -> tuple[list[int], list[str]]:
        """(first caption of each row, all captions)."""
        column = self.table["captions"].combine_chunks()
        return column.offsets.to_pylist(), column.values.field("text").to_pylist()

    def tagged(self, row: int) -> list[tuple[str, int]]:
        """(text, region) of each of an image's tags, best first."""
        starts, tags = self._tags
        return tags[starts[row] : starts[row + 1]]

    @cached_property
    def _tags(self) -> tuple[list[int], list[tuple[str, int]]]:
        """(start of each image's tags and the end, all tags). An image without any may have null."""
        column = self.table["tags"].combine_chunks()
        counts = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
        tags = column.flatten()  # leaves out what lies under a null
        pairs = zip(tags.field("text").to_pylist(), tags.field("region").to_pylist(), strict=True)
        return [0, *np.cumsum(counts).tolist()], list(pairs)

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
        stored, (rows, width) = self._kind(column)
        rows = rows if isinstance(rows, int) else rows[row]
        scales = self.numbers("feature_scales", row) if stored.kind == "i" else None
        if most is not None and most < rows:
            rows = most
        return Stored(self.heavy[column], self._start + row, rows, width, stored, scales)  # type: ignore[arg-type]

    def image(self, row: int) -> bytes:
        return self.heavy["image"].value(self.in_shard(row))

    def url(self, row: int) -> str:
        """Read for a message alone."""
        found: str = self.reader.small(self.number, ["url"])["url"][row].as_py()
        return found

    @cached_property
    def _start(self) -> int:
        return int(self.reader.starts[self.number])

    def in_shard(self, row: int) -> int:
        return self._start + row

    def _kind(self, column: str) -> tuple[np.dtype[Any], list[int | list[int]]]:
        """(type of a blob's numbers, its shape: sizes of all rows, and lists with each row's own)."""

        found: tuple[np.dtype[Any], list[int | list[int]]] | None = self._columns.get((column, "kind"))
        if found is None:
            blob = BLOBS[column]
            found = blob.number(self.metadata), [self._size(size) for size in blob.shape]
            self._columns[column, "kind"] = found
        return found

    def _size(self, size: int | str) -> int | list[int]:
        if isinstance(size, int):
            return size
        return int(self.metadata[size]) if size in self.metadata else self.cells(size)

    def cached(self, name: Hashable, make: Callable[[], Any]) -> Any:
        """What `make` returned the first time: made for all rows at once, it costs little a row."""
        try:
            return self._columns[name]
        except KeyError:
            found = self._columns[name] = make()
        return found


def _flat(column: pa.Array) -> tuple[list[int], Array]:
    """(start of each value and the end, the bytes of all, read-only) of a large_binary array."""
    _, starts, content = column.buffers()
    numbers = np.frombuffer(starts, np.int64)[column.offset : column.offset + len(column) + 1]
    values: Array = np.frombuffer(content or b"", np.uint8)
    values.setflags(write=False)  # some of Arrow's buffers are not, and objectives change what they may write to
    return numbers.tolist(), values
