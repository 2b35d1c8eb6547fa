"""Rows of a csv, tsv, txt, json, jsonl or parquet file, one dict each. What is text stays as written."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import TextIOWrapper
from typing import Any, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from formats.lists import separated
from formats.lists.bad import Bad, as_utf8, is_utf8
from formats.lists.files import UNREADABLE, encoding_of, format_of, opened, unreadable
from pairloom.errors import InputError

Record = dict[str, Any]

BATCH = 4096  # rows of a parquet file in memory


@dataclass(frozen=True)
class Numbered:
    """A row with the number of its line. Of a json or parquet file, its own number. Counted from 1."""

    number: int
    row: Record | Bad


def read(file: str, columns: Sequence[str] = (), quotes: bool = True) -> Iterator[Record]:
    """The rows of one file, in order. Raises InputError where the file or a row is not what its name says.

    columns: the names of the columns of a csv or tsv file that has no header line; quotes: whether " in it quotes.
    A row of a txt file is a line, under the name "line".
    """
    for numbered in numbered_rows(file, columns, quotes):
        if isinstance(numbered.row, Bad):
            raise numbered.row.error(file, numbered.number)
        yield numbered.row


def numbered_rows(file: str, columns: Sequence[str] = (), quotes: bool = True) -> Iterator[Numbered]:
    """As `read`, but a row that can't be read is a Bad. Raises InputError where the whole file can't be."""
    kind = format_of(file)
    if columns and kind not in ("csv", "tsv"):
        raise InputError(
            f"names of columns are given for a {kind} file, which has its own", file, "leave sample.columns out"
        )
    rows = _parquet_rows(file) if kind == "parquet" else _text_rows(file, kind, columns, quotes)
    number = 0
    try:
        for numbered in rows:
            number = numbered.number
            yield numbered
    except UNREADABLE as error:
        raise unreadable(file, error, f"{file}, after row {number}") from error


def _text_rows(file: str, kind: str, columns: Sequence[str], quotes: bool) -> Iterator[Numbered]:
    readers: dict[str, Callable[[TextIO], Iterator[Numbered]]] = {
        "csv": lambda stream: _separated(stream, ",", columns, quotes),
        "tsv": lambda stream: _separated(stream, "\t", columns, quotes),
        "txt": _lines,
        "json": _json_rows,
        "jsonl": _json_lines,
        "ndjson": _json_lines,
    }
    newline = {"csv": "", "tsv": "", "txt": None}.get(kind, "\n")  # the csv module wants line ends as they are
    encoding = encoding_of(file)
    with (
        opened(file) as raw,
        TextIOWrapper(raw, encoding=encoding, errors="surrogateescape", newline=newline) as stream,
    ):
        yield from readers[kind](stream)


def _separated(stream: TextIO, delimiter: str, columns: Sequence[str], quotes: bool) -> Iterator[Numbered]:
    return (Numbered(*found) for found in separated.read(stream, delimiter, columns, quotes))


def _lines(stream: TextIO) -> Iterator[Numbered]:
    for number, line in enumerate(stream, 1):
        text = line.removesuffix("\n")
        yield Numbered(number, {"line": text} if is_utf8(text) else Bad.not_utf8(text))


def _json_rows(stream: TextIO) -> Iterator[Numbered]:
    text = stream.read()
    if not is_utf8(text):
        as_utf8(text)
    rows = json.loads(text, object_pairs_hook=_without_doubled)
    if not isinstance(rows, list):
        raise json.JSONDecodeError("not a list of objects", "", 0)
    yield from (Numbered(number, _object(row)) for number, row in enumerate(rows, 1))


def _json_lines(stream: TextIO) -> Iterator[Numbered]:
    for number, line in enumerate(stream, 1):
        if line.strip():
            yield Numbered(number, _json_line(line))


def _json_line(line: str) -> Record | Bad:
    if not is_utf8(line):
        return Bad.not_utf8(line)
    try:
        return _object(json.loads(line, object_pairs_hook=_without_doubled))
    except (ValueError, RecursionError) as error:  # also a number of too many digits
        return Bad(line, f"it cannot be read as json: {error}")


def _object(row: Any) -> Record | Bad:
    if isinstance(row, dict):
        return row
    return Bad(as_json(row), f"a row is {str(row)[:80]!r}, not an object")


def _without_doubled(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        doubled = next(name for name in names if names.count(name) > 1)
        raise json.JSONDecodeError(f"two columns are called {doubled!r}", "", 0)
    return found


def _parquet_rows(file: str) -> Iterator[Numbered]:
    number = 0
    with opened(file) as raw, pq.ParquetFile(raw) as table:
        separated.unique(table.schema_arrow.names)
        for batch in table.iter_batches(batch_size=BATCH):
            for row in batch.to_pylist():
                number += 1
                yield Numbered(number, row)


def columns_of_bytes(file: str) -> list[str]:
    """The columns of a parquet file that hold bytes, also within lists and structures. None of another format.

    Raises InputError if it cannot be read.
    """
    if format_of(file) != "parquet":
        return []
    try:
        with opened(file) as raw, pq.ParquetFile(raw) as table:
            return [column.name for column in table.schema_arrow if _has_bytes(column.type)]
    except UNREADABLE as error:
        raise unreadable(file, error, file) from error


def _has_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_nested(kind):
        return any(_has_bytes(kind.field(index).type) for index in range(kind.num_fields))
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))


def json_list(value: str) -> str | list[Any]:
    """The list that the text is in JSON, if it is one of texts or of objects with a text. Else the text itself."""
    try:
        items = json.loads(value)
    except (ValueError, RecursionError):
        return value
    plain = isinstance(items, list) and all(
        item is None or isinstance(item, str) or (isinstance(item, dict) and "text" in item) for item in items
    )
    return items if plain else value


def as_json(value: Any) -> str:
    """A value that is not text, as JSON. What JSON does not know (dates) in Python's words."""
    return json.dumps(value, ensure_ascii=False, default=str)
