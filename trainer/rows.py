"""The rows of a shards folder: which there are, and what is in each; reads only the columns that are named."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from schemas.errors import ConfigError, StoreError
from schemas.folder import Entry
from schemas.index import HEAVY, wanted
from schemas.shards import SHARDS
from schemas.table import Array, Blob
from trainer import questions
from trainer.order import CAPTION, random_bits
from trainer.reading import DamagedError, Heavy, ShardReader
from trainer.source import Source, open_source
from trainer.stored import Stored

# Which stage makes a column that a recipe may miss.
MADE_BY = {"tags": "tags", "negatives": "negatives", "short": "negatives"}
# Columns that are always there, but null unless this key of the file's metadata has a number above 0.
COUNTED = {"patch_": "patch_count", "pyramid_": "pyramid_count", "qa": "answer_count", "similar": "similar_top_k"}
# The stage that gives that number, which the stage shards must be told to join, and its setting where it needs one.
ASKED_BY = {
    "patch_count": ("patches", "patches.grid: 8"),
    "pyramid_count": ("patches", "patches.pyramid: true"),
    "answer_count": ("qa", "qa.sources: [{file: QUESTIONS.json}]"),
    "similar_top_k": ("similar", ""),
}
DETECTED = ("num_regions", "boxes", "class_", "attribute_", "features", "prob_")
# The setting behind a width that is 0, and its cure.
SETTINGS = {"prob_width": ("regions.class_probs: none", "set regions.class_probs to a number, such as 64, or to full")}
OPEN_BYTES = 512 << 20  # of small columns that a process keeps decoded
READERS = 32  # shards that a process keeps open

Captions = Literal["each", "one"]


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

    def draws(self, seed: int, epoch: int, group: int) -> list[int]:
        """Random bits for each image, from which its caption of the epoch follows."""
        images = len(self.firsts) - 1
        drawn: list[int] = self.once(
            ("draws", seed, epoch), lambda: random_bits(images, CAPTION, seed, epoch, group).tolist()
        )
        return drawn

    def cells(self, column: str) -> list[Any]:
        """A small column as Python values: taking all at once costs less than a dozen Arrow scalars a row."""
        cells: list[Any] = self.once(column, lambda: self.table[column].to_pylist())
        return cells

    def cell(self, column: str, row: int) -> Any:
        """An Arrow scalar."""
        return self.once((column, "arrow"), lambda: self.table[column].combine_chunks())[row]

    def text(self, row: int, caption: int) -> str:
        def flat() -> tuple[list[int], list[str]]:
            column = self.table["captions"].combine_chunks()
            return column.offsets.to_pylist(), column.values.field("text").to_pylist()

        starts, texts = self.once("texts", flat)
        text: str = texts[starts[row] + caption]
        return text

    def numbers(self, column: str, row: int) -> Array:
        """A blob as an array of its shape, read-only, not copied unless it is a large one."""
        if column in self.heavy:
            return np.asarray(self.stored(column, row))
        starts, content = self.once((column, "bytes"), lambda: _flat(self.table[column].combine_chunks()))
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
        return Stored(self.heavy[column], self._row_in_shard(row), rows, width, stored, scales)

    def image(self, row: int) -> bytes:
        return self.heavy["image"].value(self._row_in_shard(row))

    def _row_in_shard(self, row: int) -> int:
        return int(self.reader.starts[self.number]) + row

    def _kind(self, column: str) -> tuple[np.dtype[Any], list[int | list[int]]]:
        """(type of a blob's numbers, its shape: sizes of all rows, and lists with each row's own)."""

        def kind() -> tuple[np.dtype[Any], list[int | list[int]]]:
            blob = SHARDS.column(column).type
            assert isinstance(blob, Blob)
            return blob.number(self.metadata), [self._size(size) for size in blob.shape]

        found: tuple[np.dtype[Any], list[int | list[int]]] = self.once((column, "kind"), kind)
        return found

    def _size(self, size: int | str) -> int | list[int]:
        if isinstance(size, int):
            return size
        return int(self.metadata[size]) if size in self.metadata else self.cells(size)

    def once(self, name: Hashable, make: Callable[[], Any]) -> Any:
        """What `make` gives, kept: what is made for all rows at once costs little a row."""
        if name not in self._columns:
            self._columns[name] = make()
        return self._columns[name]


def _flat(column: pa.Array) -> tuple[list[int], Array]:
    """(start of each value and the end, the bytes of all) of a large_binary array."""
    _, starts, content = column.buffers()
    numbers = np.frombuffer(starts, np.int64)[column.offset : column.offset + len(column) + 1]
    return numbers.tolist(), np.frombuffer(content or b"", np.uint8)


@dataclass(frozen=True)
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
        return self._told("negatives")

    def similar(self) -> list[str]:
        """Texts of other images' captions that are most like the caption, most similar first; perhaps none."""
        return self._told("similar")

    def _told(self, column: str) -> list[str]:
        told = self.group.cell(column, self.row).values[self.caption_index].values
        return [] if told is None else list(told.field("text").to_pylist())

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
        mine = langs[self.caption_index]
        return [text for lang, text in zip(langs, texts, strict=True) if lang and mine and lang != mine]

    def other(self, rng: np.random.Generator) -> Row | None:
        """A random row of another image of the same row group, or None if there is none."""
        first, last = np.searchsorted(self.group.rows, [self.row, self.row + 1])
        others = len(self.group.rows) - int(last - first)
        if others == 0:
            return None
        place = int(rng.integers(others))
        return Row(self.group, place if place < first else place + int(last - first))


@dataclass(frozen=True)
class Rows:
    """All rows of one split, in the order of the shards; reads one row group at a time.

    A row is an image with each of its captions, or with one of them that is drawn anew every epoch.
    """

    source: Source
    split: str
    columns: tuple[str, ...]
    languages: tuple[str, ...]
    shards: tuple[Entry, ...]
    captions: Captions = "each"
    _readers: dict[int, ShardReader] = field(default_factory=dict, repr=False)
    _open: dict[int, OpenGroup] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return sum(self.sizes())

    @cached_property
    def _groups(self) -> tuple[Array, Array, Array, Array]:
        """Of each row group: its shard, its number there, its (image, caption) rows, and its images among these."""
        parts = [self._counts(shard) for shard in range(len(self.shards))]
        shards = np.repeat(np.arange(len(parts)), [len(part[0]) for part in parts])
        numbers = np.concatenate([np.arange(len(part[0])) for part in parts])
        rows, images = (np.concatenate([part[i] for part in parts]) for i in range(2))
        return shards, numbers, rows, images

    def _counts(self, shard: int) -> tuple[Array, Array]:
        index = self.source.index(self.shards[shard])
        first, _ = index.captions
        chosen = np.concatenate([[0], np.cumsum(wanted(index, self.languages))])[first]
        mine = np.diff(chosen)  # captions of each row
        groups = len(index.facts["chunks"])
        rows = np.bincount(index.row_groups, weights=mine, minlength=groups).astype(np.int64)
        return rows, np.bincount(index.row_groups[mine > 0], minlength=groups)

    def sizes(self) -> tuple[int, ...]:
        """Rows of each row group."""
        _, _, rows, images = self._groups
        return tuple((rows if self.captions == "each" else images).tolist())

    def at(self, group: int, place: int, seed: int = 0, epoch: int = 0) -> Row:
        """A row. With one caption an image, seed and epoch decide which. Raises reading.DamagedError."""
        opened = self._group(group)
        if self.captions == "each":
            return Row(opened, place)
        first, following = opened.firsts[place : place + 2]
        return Row(opened, first + opened.draws(seed, epoch, group)[place] % (following - first))

    def will_need(self, group: int) -> None:
        """Ask for a row group ahead of time."""
        shard, number = self._where(group)
        self._reader(shard).will_need(number, self.columns)

    def forget(self, where: str) -> None:
        """Let go of everything that is open, and of copies of the shard that an error names."""
        self._open.clear()
        self._readers.clear()
        self.source.forget(where)

    def metadata(self) -> dict[str, str]:
        """The file metadata of the first shard: vocabularies and widths, the same in all."""
        try:
            return self._reader(0).metadata
        except DamagedError as error:
            if not self.source.copies:
                raise
            self.forget(error.args[1])  # perhaps only the copy is damaged: once more from the source
            return self._reader(0).metadata

    def all(self, most_images: int | None = None) -> Iterator[Row]:
        """The (image, caption) rows in stored order, of so many images at most."""
        images = 0
        for group in range(len(self.sizes())):
            opened = self._group(group)
            for place, row in enumerate(opened.rows):
                images += place == 0 or row != opened.rows[place - 1]
                if most_images is not None and images > most_images:
                    return
                yield Row(opened, place)

    def texts(self) -> Iterator[str]:
        """The captions, one a row, and questions and answers where they are read, without opening the other columns."""
        for shard in range(len(self.shards)):
            reader = self._reader(shard)
            for number in range(reader.groups):
                column: Any = reader.small(number, ["captions"])["captions"].combine_chunks()
                rows, captions = self._places(reader, number)
                places = column.offsets.to_numpy()[rows] + captions
                yield from column.values.field("text").take(pa.array(places)).to_pylist()
                if "qa" in self.columns:
                    yield from questions.texts(reader.small(number, ["qa"])["qa"])

    def _where(self, group: int) -> tuple[int, int]:
        shards, numbers, _, _ = self._groups
        return int(shards[group]), int(numbers[group])

    def _reader(self, shard: int) -> ShardReader:
        if shard not in self._readers:
            _make_room(self._readers, len(self._readers) - READERS + 1)
            self._readers[shard] = ShardReader(self.source, self.shards[shard])
        return self._readers[shard]

    def _places(self, reader: ShardReader, number: int) -> tuple[Array, Array]:
        """(row in the group, caption index) of every caption of a row group that is wanted."""
        start, stop = reader.starts[number : number + 2]
        first, _ = reader.index.captions
        chosen = wanted(reader.index, self.languages)[first[start] : first[stop]]
        counts = np.diff(first[start : stop + 1])
        rows = np.repeat(np.arange(stop - start, dtype=np.int32), counts)
        captions = np.arange(first[start], first[stop], dtype=np.int32) - np.repeat(first[start:stop], counts)
        return rows[chosen], captions[chosen]

    def _group(self, group: int) -> OpenGroup:
        if group in self._open:
            return self._open[group]
        shard, number = self._where(group)
        reader = self._reader(shard)
        scales = ("feature_scales",) if reader.metadata.get("feature_dtype") == "<i1" else ()
        table = reader.small(number, (*self.columns, *(scales if "features" in self.columns else ())))
        heavy = {name: reader.heavy(number, name) for name in HEAVY if name in self.columns}
        size = table.nbytes * (len(self._open) + 1)  # row groups are much alike
        _make_room(self._open, 0 if size <= OPEN_BYTES else 1)
        self._open[group] = OpenGroup(reader, number, table, heavy, *self._places(reader, number))
        return self._open[group]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_readers": {}, "_open": {}}  # a worker opens its own


def _make_room(kept: dict[int, Any], count: int) -> None:
    """Drop the oldest `count` of what is kept."""
    for key in list(kept)[: max(count, 0)]:
        del kept[key]


def open_rows(
    shards: Path | str,
    split: str,
    columns: tuple[str, ...],
    languages: tuple[str, ...],
    captions: Captions = "each",
    cache: Path | None = None,
) -> Rows:
    """The rows of a split that have these languages. Raises StoreError if there are none, ConfigError naming the stage

    that writes a column which the shards lack.
    """
    source = open_source(shards, cache)
    entries = _entries(source, split, shards)
    _check_columns(source, entries[0], columns)
    rows = Rows(source, split, columns, languages, entries, captions)
    _check_widths(rows, source.where(entries[0].name))
    if not len(rows):
        raise StoreError(
            f"no caption of split {split} is in {', '.join(languages)}", str(shards), "set text.languages of the recipe"
        )
    return rows


def _entries(source: Source, split: str, shards: Path | str) -> tuple[Entry, ...]:
    entries = tuple(e for e in source.folder().shards if e.name.startswith(f"{split}-") and e.rows)
    if not entries:
        raise StoreError(f"there is no shard of split {split}", str(shards), "run the stage shards with more images")
    return entries


def lacking(shards: Path | str, columns: tuple[str, ...]) -> dict[str, str]:
    """Those of the columns that a folder of shards lacks, each with the stage that makes it."""
    source = open_source(shards)
    return _lacking(source, _entries(source, "train", shards)[0], columns)


def _lacking(source: Source, entry: Entry, columns: tuple[str, ...]) -> dict[str, str]:
    there = set(source.index(entry).facts["columns"])
    if any(_counted(column) for column in columns):  # else the file need not be opened
        notes = ShardReader(source, entry).metadata
        there -= {column for column in columns if (key := _counted(column)) and notes.get(key, "0") == "0"}
    return {column: made_by(column) for column in columns if column not in there}


def _counted(column: str) -> str | None:
    return next((key for prefix, key in COUNTED.items() if column.startswith(prefix)), None)


def _check_columns(source: Source, entry: Entry, columns: tuple[str, ...]) -> None:
    missing = _lacking(source, entry, columns)
    if missing:
        stages = sorted(set(missing.values()))
        raise ConfigError(
            f"the recipe needs the columns {', '.join(sorted(missing))}, which the shards lack",
            where=source.where(entry.name),
            fix=f"{_settings(missing)}run the stages {', '.join(stages)} and then shards; or take another recipe",
        )


def _settings(missing: Iterable[str]) -> str:
    wanted = settings_for(missing)
    return f"set {', '.join(wanted)} in params.yaml, " if wanted else ""


def _check_widths(rows: Rows, where: str) -> None:
    """A column can be there and hold nothing, because a setting of the stage that made it left its values out."""
    for column in rows.columns:
        kind = SHARDS.column(column).type
        widths = kind.shape if isinstance(kind, Blob) else ()
        for width in widths:
            if width in SETTINGS and rows.metadata().get(str(width)) == "0":
                setting, cure = SETTINGS[str(width)]
                raise ConfigError(
                    f"the recipe needs column {column}, which is empty: it was made with {setting}",
                    where=where,
                    fix=f"{cure} in params.yaml and run the stages regions and shards; or take another recipe",
                )


def made_by(column: str) -> str:
    """The stage that makes a column of the shards."""
    if key := _counted(column):
        return ASKED_BY[key][0]
    return "regions" if column.startswith(DETECTED) else MADE_BY.get(column, "download")


def settings_for(columns: Iterable[str]) -> list[str]:
    """What must be set in params.yaml for the stages to make these columns, beyond what is set there by default."""
    keys = {key for column in columns if (key := _counted(column))}
    asked = [ASKED_BY[key] for key in COUNTED.values() if key in keys]
    return [setting for _, setting in asked if setting] + sorted({f"shards.{stage}: true" for stage, _ in asked})
