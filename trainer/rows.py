"""The rows of a shards folder: which there are, and what is in each; reads only the columns that are named."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from schemas.errors import ConfigError, StoreError
from schemas.folder import Folder, open_folder
from schemas.shards import SHARDS
from schemas.table import Array, Blob

# Which stage makes a column that a recipe may miss.
MADE_BY = {"tags": "tags", "negatives": "negatives", "short": "negatives"}
DETECTED = ("num_regions", "boxes", "class_", "attribute_", "features", "prob_")


@dataclass(frozen=True)
class OpenShard:
    """One shard in memory, with the columns that the recipe names."""

    name: str
    table: pa.Table
    metadata: dict[str, str]
    rows: Array  # row of each of the shard's (image, caption) rows
    captions: Array  # and its caption index

    def numbers(self, column: str, row: int) -> Array:
        """A blob as an array of its shape, read-only, not copied."""
        blob = SHARDS.column(column).type
        assert isinstance(blob, Blob)
        flat = np.frombuffer(self.table[column][row].as_buffer(), dtype=blob.number(self.metadata))
        return flat.reshape([self._length(size, row) for size in blob.shape])

    def _length(self, size: int | str, row: int) -> int:
        if isinstance(size, int):
            return size
        return int(self.metadata[size]) if size in self.metadata else int(self.table[size][row].as_py())


@dataclass(frozen=True)
class Row:
    """One training row: an image with one of its captions."""

    shard: OpenShard
    place: int  # among the shard's (image, caption) rows

    @property
    def row(self) -> int:
        return int(self.shard.rows[self.place])

    @property
    def caption_index(self) -> int:
        return int(self.shard.captions[self.place])

    @property
    def image_id(self) -> bytes:
        identity: bytes = self.value("image_id")
        return identity

    @property
    def text(self) -> str:
        text: str = self.shard.table["captions"][self.row].values.field("text")[self.caption_index].as_py()
        return text

    def has(self, column: str) -> bool:
        return column in self.shard.table.column_names

    def value(self, column: str) -> Any:
        return self.shard.table[column][self.row].as_py()

    def numbers(self, column: str) -> Array:
        return self.shard.numbers(column, self.row)

    def negatives(self) -> list[str]:
        """Texts of the caption's mined hard negatives, most similar first."""
        mined = self.shard.table["negatives"][self.row].values[self.caption_index].values
        return [] if mined is None else list(mined.field("text").to_pylist())

    def other(self, rng: np.random.Generator) -> Row | None:
        """A random row of another image of the same shard, or None if there is none."""
        first, last = np.searchsorted(self.shard.rows, [self.row, self.row + 1])
        others = len(self.shard.rows) - int(last - first)
        if others == 0:
            return None
        place = int(rng.integers(others))
        return Row(self.shard, place if place < first else place + int(last - first))


@dataclass(frozen=True)
class Rows:
    """All (image, caption) rows of one split, in the order of the shards; reads one shard at a time."""

    folder: Folder
    split: str
    columns: tuple[str, ...]
    shards: tuple[str, ...]
    places: tuple[tuple[Array, Array], ...]  # for each shard, row and caption index
    _open: dict[str, OpenShard] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return sum(len(rows) for rows, _ in self.places)

    def sizes(self) -> tuple[int, ...]:
        return tuple(len(rows) for rows, _ in self.places)

    def at(self, group: int, place: int) -> Row:
        return Row(self._shard(group), place)

    def metadata(self) -> dict[str, str]:
        """The file metadata of the first shard: vocabularies and widths, the same in all."""
        return self.folder.metadata(self.shards[0])

    def all(self, most_images: int | None = None) -> Iterator[Row]:
        """The rows in stored order, of so many images at most."""
        images = 0
        for group, (rows, _) in enumerate(self.places):
            for place, row in enumerate(rows):
                images += place == 0 or row != rows[place - 1]
                if most_images is not None and images > most_images:
                    return
                yield self.at(group, place)

    def texts(self) -> Iterator[str]:
        """The captions, one a row, without opening the other columns."""
        for name, (rows, captions) in zip(self.shards, self.places, strict=True):
            column: Any = self.folder.read(name, ["captions"])["captions"].combine_chunks()
            places = column.offsets.to_numpy()[rows] + captions
            yield from column.values.field("text").take(pa.array(places)).to_pylist()

    def _shard(self, group: int) -> OpenShard:
        name = self.shards[group]
        if name not in self._open:
            while len(self._open) >= 2:  # a batch may reach from one shard into the next
                self._open.pop(next(iter(self._open)))
            table = self.folder.read(name, list(self.columns))
            self._open[name] = OpenShard(name, table, self.folder.metadata(name), *self.places[group])
        return self._open[name]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": {}}  # a worker opens its own


def open_rows(shards: Path, split: str, columns: tuple[str, ...], languages: tuple[str, ...]) -> Rows:
    """The rows of a split that have these languages. Raises StoreError if there are none, ConfigError naming the stage

    that writes a column which the shards lack.
    """
    folder = open_folder(shards)
    names = tuple(entry.name for entry in folder.shards if entry.name.startswith(f"{split}-") and entry.rows)
    if not names:
        raise StoreError(f"there is no shard of split {split}", str(shards), "run the stage shards with more images")
    _check_columns(folder, names[0], columns)
    places = tuple(_places(folder.read(name, ["captions"])["captions"], languages) for name in names)
    rows = Rows(folder, split, columns, names, places)
    if not len(rows):
        raise StoreError(
            f"no caption of split {split} is in {', '.join(languages)}", str(shards), "set text.languages of the recipe"
        )
    return rows


def _check_columns(folder: Folder, shard: str, columns: tuple[str, ...]) -> None:
    missing = set(columns) - set(pq.read_schema(folder.file(shard)).names)
    if missing:
        stages = sorted({made_by(column) for column in missing})
        raise ConfigError(
            f"the recipe needs the columns {', '.join(sorted(missing))}, which the shards lack",
            where=str(folder.file(shard)),
            fix=f"run the stages {', '.join(stages)} and then shards; or take another recipe",
        )


def made_by(column: str) -> str:
    """The stage that makes a column of the shards."""
    return "regions" if column.startswith(DETECTED) else MADE_BY.get(column, "download")


def _places(captions: Any, languages: tuple[str, ...]) -> tuple[Array, Array]:
    """(row, caption index) of every caption in these languages, or in none that is known."""
    column = captions.combine_chunks()
    lengths = np.diff(column.offsets.to_numpy())
    rows = np.repeat(np.arange(len(column), dtype=np.int32), lengths)
    indices = (np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)).astype(np.int32)
    if not languages:
        return rows, indices
    lang = column.flatten().field("lang")
    wanted = pa.array([*languages, None], pa.string())  # is_in finds null in a set that holds it
    kept = pc.is_in(lang, wanted).to_numpy(zero_copy_only=False)
    return rows[kept], indices[kept]
