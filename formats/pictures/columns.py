"""Pictures in rows of Parquet and Arrow files, read forward: a run of rows is in memory, never a file."""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from formats.pictures.errors import SourceError, explained
from formats.pictures.roots import File, Stream

AT_ONCE = 32  # rows of a Parquet file
FILE_MAGIC = b"ARROW1\0\0"  # of Arrow's file format. Without it a stream starts at once
MESSAGE = struct.Struct("<Ii")  # continuation, bytes of metadata
CONTINUATION = 0xFFFFFFFF
RECORD_BATCH = 3  # of MessageHeader in Arrow's Message.fbs
BUFFER_BYTES = 1 << 20  # of a column that are read at once. Else all of a row group would be
AHEAD = 1 << 16  # bytes that are read at once while a file's messages are looked up


class Rows(Protocol):
    """A file of rows in runs that can be read one by one."""

    starts: list[int]  # number of the first row of each run, then how many rows there are

    def run(self, number: int, column: str) -> Iterator[pa.Array]:
        """The column's values in this run, in order, a few rows at a time."""


class Columns:
    """A file of rows whose pictures are asked for as `ROW/COLUMN`, cheaply in the order of rows."""

    def __init__(self, name: str, file: File) -> None:
        self.file, self.name = file, name
        with explained(name):
            self._rows: Rows = (Parquet if name.lower().endswith(".parquet") else Arrow)(file)
        self._column, self._run = "", -1
        self._pieces: Iterator[pa.Array] = iter(())
        self._piece: Any = None
        self._start = self._stop = 0  # rows of the piece

    def place(self, name: str) -> tuple[int, str]:
        """(row, column). Raises SourceError not-found if there is no such row."""
        row, _, column = name.partition("/")
        if not (row.isascii() and row.isdigit() and column):
            raise SourceError("not-found", f"{name!r} is no place in a table: write ROW/COLUMN")
        if int(row) >= self._rows.starts[-1]:
            raise SourceError("not-found", f"there is no row {row}: the file has {self._rows.starts[-1]}")
        return int(row), column

    def read(self, place: tuple[int, str]) -> bytes:
        row, column = place
        try:
            with explained(self.name):
                self._go_to(row, column)
        except SourceError:
            self._run = -1  # what follows opens the run again
            raise
        return _bytes(self._piece[row - self._start].as_py(), row, column)

    def _go_to(self, row: int, column: str) -> None:
        """Have the piece with this row. Raises LookupError where the run is shorter than it says."""
        run = bisect_right(self._rows.starts, row) - 1
        if run != self._run or column != self._column or row < self._start:
            self._pieces, self._run, self._column = self._rows.run(run, column), run, column
            self._start = self._stop = self._rows.starts[run]
        while row >= self._stop:
            piece = next(self._pieces, None)
            if piece is None:
                raise LookupError(f"there is no row {row}, which the file promises")
            self._piece = piece
            self._start, self._stop = self._stop, self._stop + len(self._piece)

    def close(self) -> None:
        self.file.close()


def _bytes(value: Any, row: int, column: str) -> bytes:
    """The picture in a value: bytes, {bytes, path} as datasets has it, or a list of them with one item."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, dict):
        if value.get("bytes") is None and value.get("path"):
            raise SourceError("not-found", f"row {row} has no bytes but a path, {value['path']!r}")
        value = value.get("bytes")
    if isinstance(value, bytes):
        return value
    said = "is null" if value is None else f"holds {type(value).__name__}, not bytes"
    raise SourceError("not-found", f"column {column!r} of row {row} {said}")


class Parquet:
    """A run is a row group."""

    def __init__(self, file: File) -> None:
        self._table = pq.ParquetFile(pa.PythonFile(Stream(file), "r"), buffer_size=BUFFER_BYTES)
        facts = self._table.metadata
        self.starts = [0, *accumulate(facts.row_group(number).num_rows for number in range(facts.num_row_groups))]

    def run(self, number: int, column: str) -> Iterator[pa.Array]:
        refuse_unknown(column, self._table.schema_arrow)
        for batch in self._table.iter_batches(AT_ONCE, [number], [column], use_threads=False):
            yield batch.column(0)


class Arrow:
    """A run is a record batch, of a file or a stream. Where each begins is read off the messages' heads."""

    def __init__(self, file: File) -> None:
        self._file = file
        start = len(FILE_MAGIC) if file.read(0, len(FILE_MAGIC)) == FILE_MAGIC else 0
        stream = Stream(file)
        stream.seek(start)
        with pa.ipc.open_stream(pa.PythonFile(stream, "r")) as reader:
            self._schema = reader.schema
        found = list(record_batches(file, start))
        self._batches = [(place, length) for place, length, _ in found]
        self.starts = [0, *accumulate(rows for *_, rows in found)]

    def run(self, number: int, column: str) -> Iterator[pa.Array]:
        refuse_unknown(column, self._schema)
        message = pa.ipc.read_message(self._file.view(*self._batches[number]))
        found = pa.ipc.read_record_batch(message, self._schema).column(column)
        found.validate(full=True)  # or damaged offsets would be followed out of the buffer
        yield found


def refuse_unknown(column: str, schema: pa.Schema) -> None:
    if column not in schema.names:
        raise SourceError("not-found", f"there is no column {column!r}; there are: {', '.join(schema.names)}"[:300])


def record_batches(file: File, start: int) -> Iterator[tuple[int, int, int]]:
    """(position, bytes, rows) of each record batch. Raises SourceError unreadable if the file ends within one."""
    stream, place = Stream(file, AHEAD), start
    while True:
        stream.seek(place)
        head = stream.read(MESSAGE.size)
        if len(head) < MESSAGE.size or not (size := MESSAGE.unpack(head)[1]) or head[:4] != b"\xff\xff\xff\xff":
            return
        metadata = stream.read(size)
        if len(metadata) < size:
            raise SourceError("unreadable", f"the file ends within a message at byte {place}")
        kind, body, rows = _message(metadata)
        length = MESSAGE.size + size + body
        if place + length > file.size:
            raise SourceError("unreadable", f"the file ends within a record batch at byte {place}")
        if kind == RECORD_BATCH:
            yield place, length, rows
        place += length


def _message(metadata: bytes) -> tuple[int, int, int]:
    """(kind, bytes of the body, rows) of a message, from its flatbuffer (Arrow's Message.fbs)."""
    table = struct.unpack_from("<I", metadata)[0]
    kind = _field(metadata, table, 1, "<B")
    body = _field(metadata, table, 3, "<q")
    header = _place(metadata, table, 2)
    inner = header + struct.unpack_from("<I", metadata, header)[0] if header else 0
    return kind, body, _field(metadata, inner, 0, "<q") if kind == RECORD_BATCH else 0


def _place(buffer: bytes, table: int, number: int) -> int:
    """Where a field of a flatbuffer's table lies. 0 if it has its default."""
    vtable = table - struct.unpack_from("<i", buffer, table)[0]
    size = struct.unpack_from("<H", buffer, vtable)[0]
    slot = 4 + 2 * number
    offset = struct.unpack_from("<H", buffer, vtable + slot)[0] if slot < size else 0
    return table + offset if offset else 0


def _field(buffer: bytes, table: int, number: int, kind: str) -> int:
    place = _place(buffer, table, number)
    return int(struct.unpack_from(kind, buffer, place)[0]) if place else 0
