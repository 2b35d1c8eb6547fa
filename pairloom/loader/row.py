"""One row of a training set: an image with one of its captions, and the row group in memory that it lies in."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from pairloom.layout import BLOBS
from pairloom.loader.order import CAPTION, random_bits
from pairloom.loader.reading import DamagedError, Heavy, ShardReader
from pairloom.loader.stored import Stored
from pairloom.table import Array

UNUSABLE = "leave the row out when the shards are made, or set the loader's on_damage to skip"


@dataclass(frozen=True)
class OpenGroup:
    """One row group in memory, with the small columns that the recipe names; its large values are read when used."""

    reader: ShardReader
    number: int
    table: pa.Table
    heavy: dict[str, Heavy]
    rows: Array  # row, in the group, of each of its (image, caption) rows
    captions: Array  # and its caption index
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
        rows = rows if most is None else min(rows, most)
        assert isinstance(width, int)
        return Stored(self.heavy[column], self._start + row, rows, width, stored, scales)

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
    """(start of each value and the end, the bytes of all) of a large_binary array."""
    _, starts, content = column.buffers()
    numbers = np.frombuffer(starts, np.int64)[column.offset : column.offset + len(column) + 1]
    return numbers.tolist(), np.frombuffer(content or b"", np.uint8)


@dataclass(slots=True)  # not frozen: one is made for each row, which takes a fifth of the time
class Row:
    """One training row: an image with one of its captions."""

    group: OpenGroup
    place: int  # among the group's (image, caption) rows

    @property
    def row(self) -> int:
        return self.group.places[self.place][0]

    @property
    def caption_index(self) -> int:
        return self.group.places[self.place][1]

    @property
    def image_id(self) -> bytes:
        identity: bytes = self.value("image_id")
        return identity

    @property
    def text(self) -> str:
        return self.group.text(self.row, self.caption_index)

    def unusable(self, what: str) -> DamagedError:
        """What to raise where a value is as it was written, and cannot be used. It names shard, row and url."""
        return DamagedError(
            what, f"{self.group.where}, row {self.group.in_shard(self.row)}, {self.group.url(self.row)}", UNUSABLE
        )

    def has(self, column: str) -> bool:
        return column in self.group.names

    def value(self, column: str) -> Any:
        return self.group.image(self.row) if column == "image" else self.group.cells(column)[self.row]

    def numbers(self, column: str) -> Array:
        return self.group.numbers(column, self.row)

    def stored(self, column: str, most: int | None = None) -> Stored:
        return self.group.stored(column, self.row, most)

    def negatives(self) -> list[str]:
        """Texts of the caption's mined hard negatives, most similar first."""
        return self._texts_of("negatives")

    def similar(self) -> list[str]:
        """Texts of other images' captions that are most like the caption, most similar first; perhaps none."""
        return self._texts_of("similar")

    def _texts_of(self, column: str) -> list[str]:
        of_captions = self.group.cell(column, self.row).values
        listed = None if of_captions is None else of_captions[self.caption_index].values
        return [] if listed is None else list(listed.field("text").to_pylist())

    def siblings(self) -> list[str]:
        """The image's captions in the wanted languages, its own among them."""
        first, last = np.searchsorted(self.group.rows, [self.row, self.row + 1])
        return [Row(self.group, place).text for place in range(int(first), int(last))]

    def tags(self) -> str:
        """The image's tags, best first, joined by spaces; empty if it has none."""
        found = self.group.cell("tags", self.row).values
        return "" if found is None else " ".join(found.field("text").to_pylist())

    def tagged(self) -> list[tuple[str, int]]:
        """(text, region) of each of the image's tags, best first."""
        found = self.group.cell("tags", self.row).values
        return [] if found is None else [(tag["text"], tag["region"]) for tag in found.to_pylist()]

    def translations(self) -> list[str]:
        """The image's captions in other languages than this one's; none if a language is not known."""
        captions = self.group.cell("captions", self.row).values
        langs, texts = captions.field("lang").to_pylist(), captions.field("text").to_pylist()
        own = langs[self.caption_index]
        return [text for lang, text in zip(langs, texts, strict=True) if lang and own and lang != own]

    def other(self, rng: np.random.Generator) -> Row | None:
        """A random row of another image of the same row group, or None if there is none."""
        first, last = np.searchsorted(self.group.rows, [self.row, self.row + 1])
        others = len(self.group.rows) - int(last - first)
        if others == 0:
            return None
        place = int(rng.integers(others))
        return Row(self.group, place if place < first else place + int(last - first))
