"""Unite rows of one URL, such as COCO's one row a caption, so that a picture is fetched once and has all its captions.

A list may be longer than memory: its rows go to a file, of each URL a hash of 8 bytes stays, and the rows that follow
a first one of their URL are sorted to its place through files of bounded size.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import xxhash

from formats.lists.stream import ListStream
from formats.lists.urls import BadRow, Part
from pairloom.table import Array
from schemas.urls import URLS

ROWS_IN_MEMORY = 50_000  # of those that are moved, as far as MOST_FILES allows. One takes over a kilobyte
MOST_FILES = 200  # open at once
PIECE = 10_000  # rows that are looked at together
RANGES = 16  # of hashes, sorted one after the other, so that little is in memory besides
Moved = dict[int, list[dict[str, object]]]  # row of a first one -> the later rows of its URL, in list order


def united(parts: Iterable[Part], folder: Path) -> Iterator[Part]:
    """The list with one row for each URL: the first one, with the captions of all, each once, in list order.

    A bad row stays behind the good row that it followed. folder: an empty one for files that are not needed afterwards.
    """
    bad: list[BadRow] = []
    hashes = _spill(parts, folder / "rows.arrow", bad)
    later, first = later_rows(hashes)
    del hashes
    files = _MovedRows(folder, later, first)
    if len(later):
        files.write(_batches(folder / "rows.arrow"))
    yield from _emit(_batches(folder / "rows.arrow"), files, bad)


def united_in_segments(stream: ListStream, ends: Sequence[int], folder: Path) -> Iterator[Part]:
    """The list, united within each segment alone: up to each of `ends`, in rows of the list, and from the last one on.

    So that rows added to a list change nothing of what was made of the rows before them.
    """
    offset = emitted = 0
    for end in (*ends, sys.maxsize):
        segment = (_moved(part, -offset) for part in _up_to(stream, end))
        for part in united(segment, folder):
            yield _moved(part, emitted)
            emitted += part.rows.num_rows
        offset = stream.taken


def _up_to(stream: ListStream, end: int) -> Iterator[Part]:
    while stream.taken < end and stream.more():
        yield stream.take(min(PIECE, end - stream.taken))


def _moved(part: Part, rows: int) -> Part:
    """The part with its bad rows counted from another row on."""
    return replace(part, bad=tuple(replace(one, after=one.after + rows) for one in part.bad))


def later_rows(hashes: Array) -> tuple[Array, Array]:
    """The rows whose hash stands in an earlier row, ascending, and for each the first such row, both int64."""
    first_of: Array = np.full(len(hashes), -1, np.int32 if len(hashes) < 2**31 else np.int64)
    edges = np.linspace(0, 2**64 - 1, RANGES + 1)[1:-1].astype(np.uint64)
    ranges = np.searchsorted(edges, hashes, side="right").astype(np.uint8)
    for number in range(RANGES):
        rows = np.flatnonzero(ranges == number)
        order = np.argsort(hashes[rows], kind="stable")
        in_order = hashes[rows[order]]
        fresh = np.ones(len(order), bool)
        fresh[1:] = in_order[1:] != in_order[:-1]
        firsts = np.maximum.accumulate(np.where(fresh, np.arange(len(order)), 0))
        first_of[rows[order[~fresh]]] = rows[order[firsts[~fresh]]]
    later = np.flatnonzero(first_of >= 0)
    return later, first_of[later].astype(np.int64)


def _spill(parts: Iterable[Part], file: Path, bad: list[BadRow]) -> Array:
    """Write the rows to a file. Returns the hash of each URL (uint64). Bad rows are added to `bad`."""
    numbers = file.with_suffix(".hashes")  # a file, because a growing array would be in memory twice
    with pa.ipc.new_stream(file, URLS.empty().schema) as sink, numbers.open("wb") as hashes:
        for part in parts:
            sink.write_table(part.rows)
            bad += part.bad
            urls = part.rows["url"].to_pylist()
            found = (xxhash.xxh3_64_intdigest(url.encode()) for url in urls)
            hashes.write(np.fromiter(found, np.uint64, len(urls)).tobytes())
    return np.fromfile(numbers, np.uint64)


def _batches(file: Path) -> Iterator[tuple[int, pa.Table]]:
    """(number of its first row, rows) of each piece of a file, in order."""
    start = 0
    with pa.OSFile(str(file)) as raw, pa.ipc.open_stream(raw) as source:
        for batch in source:
            yield start, pa.Table.from_batches([batch])
            start += batch.num_rows


@dataclass
class _MovedRows:
    """Later rows in files, each file for a range of first rows."""

    folder: Path
    later: Array
    first: Array

    def __post_init__(self) -> None:
        count = min(MOST_FILES, -(-len(self.later) // ROWS_IN_MEMORY))
        ends = np.sort(self.first)[[len(self.first) * (number + 1) // count - 1 for number in range(count)]]
        self._ends = np.unique(ends)  # the last first row of each file
        self._loaded: Moved = {}
        self._next = 0  # file to load

    def write(self, batches: Iterable[tuple[int, pa.Table]]) -> None:
        kind = URLS.empty().schema.append(pa.field("first", pa.int64())).append(pa.field("row", pa.int64()))
        sinks = [pa.ipc.new_stream(self._file(number), kind) for number in range(len(self._ends))]
        try:
            for start, rows in batches:
                here = slice(*np.searchsorted(self.later, [start, start + rows.num_rows]))
                taken = rows.take(self.later[here] - start)
                taken = taken.append_column("first", pa.array(self.first[here], pa.int64()))
                taken = taken.append_column("row", pa.array(self.later[here], pa.int64()))
                place = np.searchsorted(self._ends, self.first[here])
                for number in np.unique(place):
                    sinks[number].write_table(taken.filter(pa.array(place == number)).cast(kind))
        finally:
            for sink in sinks:
                sink.close()

    def of(self, start: int, stop: int) -> Moved:
        """The later rows of the first rows start … stop − 1, asked for in ascending order."""
        while self._next < len(self._ends) and (not self._next or self._ends[self._next - 1] + 1 < stop):
            for _, rows in _batches(self._file(self._next)):
                for row in rows.to_pylist():
                    self._loaded.setdefault(row["first"], []).append(row)
            self._file(self._next).unlink()
            self._next += 1
        return {row: self._loaded.pop(row) for row in range(start, stop) if row in self._loaded}

    def _file(self, number: int) -> Path:
        return self.folder / f"moved-{number}.arrow"


def _emit(batches: Iterable[tuple[int, pa.Table]], files: _MovedRows, bad: list[BadRow]) -> Iterator[Part]:
    apart: set[int] = set()  # later rows that share a hash with their first one and not its URL
    emitted = placed = 0
    for start, rows in batches:
        stop = start + rows.num_rows
        moved = files.of(start, stop)
        stays = np.ones(rows.num_rows, bool)
        stays[files.later[slice(*np.searchsorted(files.later, [start, stop]))] - start] = False
        rows = _with_captions(rows, start, moved, apart)
        stays[[row - start for row in apart if start <= row < stop]] = True
        before = emitted + np.concatenate([[0], np.cumsum(stays)])
        own = [one for one in bad[placed:] if one.after <= stop]
        placed += len(own)
        yield Part(
            rows.filter(pa.array(stays)).combine_chunks(),
            tuple(replace(one, after=int(before[max(one.after - start, 0)])) for one in own),
        )
        emitted += int(stays.sum())


def _with_captions(rows: pa.Table, start: int, moved: Moved, apart: set[int]) -> pa.Table:
    """The rows with the captions of the later rows of their URLs."""
    if not moved:
        return rows
    urls, captions = rows["url"].to_pylist(), rows["captions"].to_pylist()
    for first, others in moved.items():
        place = first - start
        for other in others:
            if other["url"] != urls[place]:
                apart.add(other["row"])  # type: ignore[arg-type]  # an int64 column
                continue
            for caption in other["captions"]:  # type: ignore[attr-defined]  # a list column
                if caption not in captions[place]:
                    captions[place].append(caption)
    column = pa.chunked_array([pa.array(captions, rows.schema.field("captions").type)])
    return rows.set_column(rows.column_names.index("captions"), rows.schema.field("captions"), column)
