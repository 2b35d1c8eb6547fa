"""The rows of a shards folder: which there are, and what is in each. Reads only the columns that are named."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash

from pairloom.errors import StoreError
from pairloom.loader import questions
from pairloom.loader.drawing import Draw
from pairloom.loader.group import OpenGroup
from pairloom.loader.needs import check_columns, check_folder, check_widths, entries_of, refuse_other_metadata
from pairloom.loader.offered import counted, offered
from pairloom.loader.options import Captions, Options
from pairloom.loader.reading import Clock, DamagedError, ShardReader
from pairloom.loader.row import Row, Turn, drawn_row
from pairloom.loader.source import Source, open_source
from pairloom.loader.texts import sampled
from pairloom.store import counts
from pairloom.store.folder import Entry, sha256_of
from pairloom.store.index import HEAVY
from pairloom.store.kept import kept
from pairloom.table import Array

OPEN_BYTES = 512 << 20  # of small columns that a process keeps decoded
KEPT_FROM = 256  # shards of a folder of which it is kept how many rows they have: it takes 0.4 ms a shard to find out
KEPT_VERSION = 1
READERS = 32  # shards that a process keeps open


@dataclass(frozen=True)
class Rows:
    """All rows of one split, in the order of the shards. Reads one row group at a time.

    A row is an image with each of its captions, or with one of them that is drawn anew every epoch, or with what
    `draw` says of it.
    """

    source: Source
    split: str
    columns: tuple[str, ...]
    languages: tuple[str, ...]
    shards: tuple[Entry, ...]
    captions: Captions = "each"
    draw: tuple[Draw, ...] = ()
    skip: bool = False  # whether damaged shards are passed over where any other says the same
    clock: Clock = field(default_factory=Clock, repr=False, compare=False)
    _readers: dict[int, ShardReader] = field(default_factory=dict, repr=False)
    _open: dict[int, OpenGroup] = field(default_factory=dict, repr=False)
    _compared: set[int] = field(default_factory=set, repr=False, compare=False)  # shards found to be like the first

    def __len__(self) -> int:
        return sum(self.sizes())

    @cached_property
    def _groups(self) -> tuple[Array, Array, Array, Array]:
        """Of each row group: its shard, its number there, its (image, caption) rows, and its images among these."""
        known = None if self._of_kinds() else self.source.counts(self.shards)
        found = None if known is None else known.of(self.shards, self.languages)
        shards, rows, images = self._indexed_counts() if found is None else found
        _, firsts = np.unique(shards, return_index=True)
        numbers = np.arange(len(shards)) - np.repeat(firsts, np.diff([*firsts, len(shards)]))
        return shards, numbers, rows, images

    def _of_kinds(self) -> list[list[str]]:
        """The kinds that each draw names. Neither the folder's counts nor the shards' indices know them."""
        return [sorted(draw.kinds) for draw in self.draw if draw.kinds]

    def _indexed_counts(self) -> Array:
        """The same from the index of each shard; of a large folder they are kept."""
        if len(self.shards) < KEPT_FROM:
            return self._all_counts()
        of = (sha256_of(self.shards), self.languages, KEPT_VERSION, *self._of_kinds())
        key = xxhash.xxh3_128_hexdigest(repr(of).encode())
        content = kept(self.source.beside / f"rows-{key}", lambda: self._all_counts().tobytes())
        return np.frombuffer(content, "<i8").reshape(3, -1)

    def _all_counts(self) -> Array:
        """(3, row groups) int64: shard, rows and images of each."""
        parts = [self._counts(shard) for shard in range(len(self.shards))]
        shards = np.repeat(np.arange(len(parts)), [len(part[0]) for part in parts])
        return np.stack([shards, *(np.concatenate([part[i] for part in parts]) for i in range(2))]).astype("<i8")

    def _counts(self, shard: int) -> tuple[Array, Array]:
        reader = ShardReader(self.source, self.shards[shard], self.clock)  # only with kinds is its file opened
        return counted(reader, self.languages, self.draw)

    def sizes(self) -> tuple[int, ...]:
        """Rows of each row group."""
        _, _, rows, images = self._groups
        return tuple((rows if self.captions == "each" and not self.draw else images).tolist())

    def at(self, group: int, place: int, seed: int = 0, epoch: int = 0) -> Row:
        """A row. With one caption an image, seed and epoch decide which. Raises reading.DamagedError."""
        opened = self._group(group)
        if self.draw:
            return drawn_row(opened, place, Turn(seed, epoch, group))
        if self.captions == "each":
            return Row(opened, *opened.places[place])
        return Row(opened, *opened.places[opened.drawn(seed, epoch, group)[place]])

    def will_need(self, group: int) -> None:
        """Start to read a row group ahead of time."""
        shard, number = self._where(group)
        self._reader(shard).will_need(number, self.columns)

    def forget(self, where: str) -> None:
        """Close all readers, drop decoded row groups, and drop the copies of the shard that an error names."""
        self._open.clear()
        self._readers.clear()
        self.source.forget(where)

    def metadata(self) -> dict[str, str]:
        """The file metadata of the first shard: vocabularies and widths, the same in all. Raises DamagedError."""
        for shard in range(len(self.shards)):
            try:
                return self._metadata_of(shard)
            except DamagedError:
                if not self.skip or shard + 1 == len(self.shards):
                    raise
        raise AssertionError("there is a shard in every folder that was opened")

    def _metadata_of(self, shard: int) -> dict[str, str]:
        try:
            return self._reader(shard).metadata
        except DamagedError as error:
            if not self.source.copies:
                raise
            self.forget(error.args[1])  # perhaps only the copy is damaged: once more from the source
            return self._reader(shard).metadata

    @cached_property
    def _first_metadata(self) -> dict[str, str]:
        return self.metadata()  # kept, because the first shard's reader makes room for others

    def all(self, most_images: int | None = None) -> Iterator[Row]:
        """The (image, caption) rows in stored order, of so many images at most."""
        images = 0
        for group in range(len(self.sizes())):
            opened = self._group(group)
            for place, (row, caption) in enumerate(opened.places):
                images += place == 0 or row != opened.rows[place - 1]
                if most_images is not None and images > most_images:
                    return
                yield Row(opened, row, caption)

    def texts(self, most_groups: int | None = None) -> Iterator[str]:
        """The captions, one a row, and questions and answers where they are read, without opening the other columns.

        most_groups: of so many row groups at most, evenly spread over the folder.
        """
        for shard, number in map(self._where, sampled(len(self._groups[0]), most_groups)):
            reader = self._reader(shard)
            column: Any = reader.small(number, ["captions"])["captions"].combine_chunks()
            rows, captions = offered(reader, number, self.languages, self.draw)
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
            self._readers[shard] = ShardReader(self.source, self.shards[shard], self.clock)
        return self._readers[shard]

    def _group(self, group: int) -> OpenGroup:
        if group in self._open:
            return self._open[group]
        shard, number = self._where(group)
        reader = self._reader(shard)
        if shard not in self._compared:
            refuse_other_metadata(reader.metadata, self._first_metadata, reader.where(number))
            self._compared.add(shard)
        scales = ("feature_scales",) if reader.metadata.get("feature_dtype") == "<i1" else ()
        table = reader.small(number, (*self.columns, *(scales if "features" in self.columns else ())))
        heavy = {name: reader.heavy(number, name) for name in HEAVY if name in self.columns}
        size = table.nbytes * (len(self._open) + 1)  # row groups are much alike
        _make_room(self._open, 1 if size > OPEN_BYTES or len(self._open) >= most_open() else 0)
        rows, captions = offered(reader, number, self.languages, self.draw)
        if len(rows) != self._groups[2][group]:
            what = f"it has {len(rows)} rows, the folder's counts say {self._groups[2][group]}"
            fix = f"delete {counts.NAME} in the folder and run `pairloom shards index` on it"
            raise StoreError(what, reader.where(number), fix)
        self._open[group] = OpenGroup(reader, number, table, heavy, rows, captions, self.draw)
        return self._open[group]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_readers": {}, "_open": {}}  # a worker opens its own


def most_open() -> int:
    """Row groups that a process keeps open: each may hold a file descriptor, and others need some, too."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(8, soft // 8) if soft != resource.RLIM_INFINITY else 1 << 16


def _make_room(cache: dict[int, Any], count: int) -> None:
    """Drop the oldest `count` entries."""
    for key in list(cache)[: max(count, 0)]:
        del cache[key]


def open_rows(
    shards: Path | str,
    split: str,
    columns: tuple[str, ...],
    languages: tuple[str, ...],
    options: Options = Options(),  # noqa: B008  # frozen
    draw: tuple[Draw, ...] = (),
) -> Rows:
    """The rows of a split that have captions in these languages, and of these kinds. Of the options, `split` does not
    count.

    Raises StoreError if there are none, and MissingColumnsError if the shards lack a column or it has no values.
    """
    source = open_source(shards, options)
    folder = source.folder()
    check_folder(folder, shards)
    entries = entries_of(folder, split, shards)
    rows = Rows(source, split, columns, languages, entries, options.captions, draw, options.on_damage == "skip")
    check_columns(source, entries[0], columns, rows.metadata)
    check_widths(columns, rows.metadata(), source.where(entries[0].name))
    if not len(rows):
        raise StoreError(*_nothing_offered(shards, split, languages, draw))
    return rows


def _nothing_offered(
    shards: Path | str, split: str, languages: tuple[str, ...], draw: tuple[Draw, ...]
) -> tuple[str, str, str]:
    kinds = "; ".join(" or ".join(one.kinds) for one in draw if one.kinds)
    if kinds:
        what = f"no image of split {split} has captions of these kinds: {kinds}"
        return what, str(shards), "name kinds that there are (`pairloom info SHARDS` lists them) in text.draw"
    what = f"no caption of split {split} is in {', '.join(languages)}"
    return what, str(shards), "name other languages (a recipe's are text.languages)"
