"""Rows of a csv, tsv, txt, json, jsonl or parquet file, one dict each; what is text stays as written."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from io import TextIOWrapper
from typing import Any, TextIO

import pyarrow.parquet as pq

from formats.lists.files import UNREADABLE, format_of, opened, unreadable
from pairloom.errors import InputError

Record = dict[str, Any]

BATCH = 4096  # rows of a parquet file in memory


def read(file: str, columns: Sequence[str] = (), quotes: bool = True) -> Iterator[Record]:
    """The rows of one file, in order. Raises InputError where the file is not what its name says.

    columns: the names of the columns of a csv or tsv file that has no header line; quotes: whether " in it quotes.
    A row of a txt file is a line, under the name "line".
    """
    kind = format_of(file)
    if columns and kind not in ("csv", "tsv"):
        raise InputError(
            f"names of columns are given for a {kind} file, which has its own", file, "leave sample.columns out"
        )
    rows = _parquet_rows(file) if kind == "parquet" else _text_rows(file, kind, columns, quotes)
    number = 0
    try:
        for row in rows:
            number += 1
            yield row
    except UNREADABLE as error:
        raise unreadable(file, error, f"{file}, after row {number}") from error


def _text_rows(file: str, kind: str, columns: Sequence[str], quotes: bool) -> Iterator[Record]:
    readers: dict[str, Callable[[TextIO], Iterator[Record]]] = {
        "csv": lambda stream: _separated(stream, ",", columns, quotes),
        "tsv": lambda stream: _separated(stream, "\t", columns, quotes),
        "txt": lambda stream: ({"line": line.removesuffix("\n")} for line in stream),
        "json": _json_rows,
        "jsonl": _json_lines,
        "ndjson": _json_lines,
    }
    newline = {"csv": "", "tsv": "", "txt": None}.get(kind, "\n")  # the csv module wants line ends as they are
    with opened(file) as raw, TextIOWrapper(raw, encoding="utf-8-sig", newline=newline) as stream:
        yield from readers[kind](stream)


def _separated(stream: TextIO, delimiter: str, columns: Sequence[str], quotes: bool) -> Iterator[Record]:
    csv.field_size_limit(sys.maxsize >> 33)  # the default refuses a field over 128 KiB; this is a C long everywhere
    if quotes:
        rows = csv.reader(stream, delimiter=delimiter, strict=True)
    else:
        rows = csv.reader(stream, delimiter=delimiter, quoting=csv.QUOTE_NONE, strict=True)
    header = unique(list(columns) or next(rows, []))
    for row in rows:
        if row and len(row) != len(header):
            wanted = f"{len(header)} names of columns are given" if columns else f"the header {len(header)}"
            raise csv.Error(f"line {rows.line_num} has {len(row)} fields, {wanted}")
        if row:
            yield dict(zip(header, row, strict=True))


def unique(header: list[str]) -> list[str]:
    doubled = sorted({name for name in header if header.count(name) > 1})
    if doubled:
        raise csv.Error(f"two columns are called {doubled[0]!r}")
    return header


def _json_rows(stream: TextIO) -> Iterator[Record]:
    rows = json.load(stream)
    if not isinstance(rows, list):
        raise json.JSONDecodeError("not a list of objects", "", 0)
    yield from map(_object, rows)


def _json_lines(stream: TextIO) -> Iterator[Record]:
    return (_object(json.loads(line)) for line in stream if line.strip())


def _object(row: Any) -> Record:
    if isinstance(row, dict):
        return row
    raise json.JSONDecodeError(f"a row is {str(row)[:80]!r}, not an object", "", 0)


def _parquet_rows(file: str) -> Iterator[Record]:
    with opened(file) as raw, pq.ParquetFile(raw) as table:
        for batch in table.iter_batches(batch_size=BATCH):
            yield from batch.to_pylist()


def json_list(value: str) -> str | list[Any]:
    """The list that the text is in JSON, if it is one of texts or of objects with a text; else the text itself."""
    try:
        items = json.loads(value)
    except (json.JSONDecodeError, RecursionError):
        return value
    plain = isinstance(items, list) and all(
        item is None or isinstance(item, str) or (isinstance(item, dict) and "text" in item) for item in items
    )
    return items if plain else value


def as_json(value: Any) -> str:
    """A value that is not text, as JSON; what JSON does not know (dates, bytes) in Python's words."""
    return json.dumps(value, ensure_ascii=False, default=str)
