"""Read one shard: small columns by the row group, large values by position. Nothing unverified gets out."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from weakref import WeakValueDictionary

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from pairloom.errors import StoreError
from pairloom.loader.source import Source
from pairloom.machine import refuse_machine_error
from pairloom.store.folder import Entry
from pairloom.store.index import BLOCK, HEAVY, Index, Places
from pairloom.store.sums import chunk_span, footer_sum
from pairloom.table import metadata

digest = xxhash.xxh3_64_intdigest
FIX = "`pairloom verify` says how to rebuild the shard; the loader's on_damage: skip leaves the row group out"


@dataclass
class Clock:
    """Seconds spent reading, which the loader's stats keep apart from decoding."""

    read_s: float = 0.0


class DamagedError(StoreError):
    """A row group or a row whose bytes are not what was written, or that cannot be used. `where` names it.

    places: the row groups that are damaged, where they are more than `where` names.

    Cure: make or fetch the shard again. `Options(on_damage="skip")` takes other rows in the place of damaged ones.
    """

    def __init__(self, what: str, where: str, fix: str, places: tuple[str, ...] = ()) -> None:
        super().__init__(what, where, fix)
        self.args = (what, where, fix, places)
        self.places = places or (where,)


class FileDescriptor:
    """A file descriptor that is closed when nothing refers to it any more."""

    def __init__(self, path: os.PathLike[str]) -> None:
        try:
            self.number = os.open(path, os.O_RDONLY)
        except OSError as error:
            refuse_machine_error(error, str(path))
            raise

    def __del__(self) -> None:
        if "number" in self.__dict__:
            os.close(self.number)


@dataclass
class Heavy:
    """The large values of one column of one row group."""

    places: Places
    file: FileDescriptor
    base: int  # the shard's position of the file's first byte
    where: str
    scratch: memoryview  # BLOCK bytes
    clock: Clock

    def read(self, row: int, out: memoryview) -> None:
        """Fill `out` (bytes) with the beginning of a row's value.

        Only whole blocks can be verified: up to BLOCK − 1 bytes more are read, aside. Raises DamagedError.
        """
        began = time.perf_counter()
        wanted, size = len(out), int(self.places.sizes[row])
        end = min(size, -(-wanted // BLOCK) * BLOCK)
        rest = self.scratch[: end - wanted] if end > wanted else None
        try:
            got = read_all(
                self.file.number, [out] if rest is None else [out, rest], int(self.places.at[row]) - self.base
            )
        except OSError as error:
            refuse_machine_error(error, self.where)
            raise DamagedError(f"row {row} cannot be read: {error}", f"{self.where}, row {row}", FIX) from error
        if got != end or not self._sound(row, out, rest):
            raise DamagedError(f"row {row} is not what was written", f"{self.where}, row {row}", FIX)
        self.clock.read_s += time.perf_counter() - began

    def _sound(self, row: int, out: memoryview, rest: memoryview | None) -> bool:
        whole = len(out) if rest is None else len(out) // BLOCK * BLOCK
        found = [digest(out[start : start + BLOCK]) for start in range(0, whole, BLOCK)]
        if rest is not None:
            last = xxhash.xxh3_64(out[whole:])
            last.update(rest)
            found.append(last.intdigest())
        first = int(self.places.first[row])
        wanted: list[int] = self.places.sums[first : first + len(found)].tolist()
        return found == wanted

    def value(self, row: int) -> bytes:
        """A row's whole value."""
        out = np.empty(int(self.places.sizes[row]), np.uint8)
        self.read(row, out.data)
        return out.tobytes()


def read_all(file: int, buffers: Sequence[memoryview], position: int) -> int:
    """Bytes read into the buffers, one after the other. Fewer than they hold only at the end of the file."""
    got = os.preadv(file, buffers, position)
    if got == (len(buffers[0]) if len(buffers) == 1 else sum(map(len, buffers))):
        return got
    got = 0  # a signal, or a file system that gives less at a time
    for buffer in buffers:
        filled = 0
        while filled < len(buffer):
            more = os.preadv(file, [buffer[filled:]], position + got)
            if more == 0:
                return got
            filled, got = filled + more, got + more
    return got


class ShardReader:
    """One open shard."""

    def __init__(self, source: Source, entry: Entry, clock: Clock | None = None) -> None:
        self.source, self.name, self.clock = source, entry.name, clock or Clock()
        self.index: Index = source.index(entry)
        self.starts = np.searchsorted(self.index.row_groups, np.arange(self.groups + 1))
        self._scratch = memoryview(bytearray(BLOCK))
        self._descriptors: WeakValueDictionary[Path, FileDescriptor] = WeakValueDictionary()

    @property
    def groups(self) -> int:
        return len(self.index.facts["chunks"])

    def where(self, group: int) -> str:
        return f"{self.source.where(self.name)}, row group {group}"

    @cached_property
    def _file(self) -> pq.ParquetFile:
        """The Parquet file, its footer verified."""
        try:
            opened = self.source.parquet(self.name)
            with opened.open("rb") if hasattr(opened, "open") else nullcontext(opened) as stream:
                sound = footer_sum(stream) == self.index.facts["footer"]
            if sound:
                return pq.ParquetFile(opened, memory_map=False)
        except FileNotFoundError as error:
            raise self._lost("the shard is missing") from error
        except (OSError, pa.ArrowException) as error:
            refuse_machine_error(error, self.source.where(self.name))
            raise self._lost(f"the shard cannot be opened: {error}") from error
        raise self._lost("the shard's footer is not what was written")

    def _lost(self, what: str) -> DamagedError:
        """Of all row groups."""
        return DamagedError(what, self.source.where(self.name), FIX, tuple(map(self.where, range(self.groups))))

    @cached_property
    def metadata(self) -> dict[str, str]:
        return metadata(self._file.schema_arrow.empty_table())

    def small(self, group: int, columns: Sequence[str]) -> pa.Table:
        """These columns of a row group, none of them heavy. Raises DamagedError."""
        began = time.perf_counter()
        light = [column for column in columns if column not in HEAVY]
        file = self._file
        try:
            self._verify(file.metadata, group, set(light))
            table = file.read_row_group(group, columns=light, use_threads=False)
        except (OSError, pa.ArrowException) as error:
            refuse_machine_error(error, self.where(group))
            raise DamagedError(f"it cannot be read: {error}", self.where(group), FIX) from error
        self.clock.read_s += time.perf_counter() - began
        return table

    def _verify(self, file: pq.FileMetaData, group: int, columns: set[str]) -> None:
        """Compare each chunk's bytes with its checksum before a decoder reads them. Raises DamagedError."""
        sums, row_group = self.index.facts["chunks"][group], file.row_group(group)
        for number in range(row_group.num_columns):
            chunk = row_group.column(number)
            path = chunk.path_in_schema
            if path.partition(".")[0] in columns:
                start, size = chunk_span(chunk)
                local, base = self.source.local(self.name, start, start + size)
                content = memoryview(bytearray(size))
                file_of_chunk = FileDescriptor(local)
                read_all(file_of_chunk.number, [content], start - base)
                if xxhash.xxh3_64_hexdigest(content) != sums[path]:
                    raise DamagedError(f"column {path} is not what was written", self.where(group), FIX)

    def heavy(self, group: int, column: str) -> Heavy:
        """The large values of a row group. Rows are counted from the shard's first. Raises DamagedError."""
        places = self.index.places(column)
        start, stop = places.span(int(self.starts[group]), int(self.starts[group + 1]))
        try:
            path, base = self.source.local(self.name, start, stop)
            return Heavy(places, self._descriptor(path), base, self.where(group), self._scratch, self.clock)
        except FileNotFoundError as error:
            raise self._lost("the shard is missing") from error

    def _descriptor(self, path: Path) -> FileDescriptor:
        """One for all columns and row groups that lie in a file, as long as one of them is in use."""
        found = self._descriptors.get(path)
        if found is None:
            found = self._descriptors[path] = FileDescriptor(path)
        return found

    def will_need(self, group: int, columns: Sequence[str]) -> None:
        """Start to read a row group's large values ahead of time."""
        for column in HEAVY:
            if column in columns:
                places = self.index.places(column)
                self.source.will_need(self.name, *places.span(int(self.starts[group]), int(self.starts[group + 1])))
