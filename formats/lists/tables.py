"""Whole csv, tsv, json, jsonl and parquet files as Arrow tables: faster than row by row, and all in memory."""

from __future__ import annotations

import csv
from collections.abc import Callable
from io import TextIOWrapper

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from formats.lists import records, separated
from formats.lists.files import UNREADABLE, format_of, opened, unreadable

BLOCK = 1 << 24  # bytes that one thread parses at a time
Kinds = dict[str, pa.DataType | None]  # a column's name and type; None: that of the file, text in csv and tsv


def read(file: str, kinds: Kinds) -> pa.Table:
    """Those of the columns that the file has. Raises InputError, with the row where it can, if it cannot be read."""
    readers: dict[str, Callable[[str, Kinds], pa.Table]] = {
        "csv": _separated,
        "tsv": _separated,
        "json": _json,
        "jsonl": _json_lines,
        "ndjson": _json_lines,
        "parquet": _parquet,
    }
    try:
        return readers[format_of(file)](file, kinds)
    except UNREADABLE as error:
        for _ in records.read(file):  # Arrow's errors name no row: this reader's do, where it finds the fault too
            pass
        raise unreadable(file, error, file) from error


def _separated(file: str, kinds: Kinds) -> pa.Table:
    delimiter = "\t" if format_of(file) == "tsv" else ","
    with opened(file) as raw, TextIOWrapper(raw, encoding="utf-8-sig", newline="") as stream:
        header = separated.unique(next(csv.reader(stream, delimiter=delimiter, strict=True), []))
    there = {name: kind or pa.string() for name, kind in kinds.items() if name in header}
    if not there:  # Arrow would read all columns
        return pa.table({})
    with opened(file) as raw:
        return pyarrow.csv.read_csv(
            raw,
            read_options=pyarrow.csv.ReadOptions(block_size=BLOCK),
            parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=there, include_columns=list(there), strings_can_be_null=False
            ),
        )


def _json(file: str, kinds: Kinds) -> pa.Table:
    rows = list(records.read(file))
    there = {name: kind for name, kind in kinds.items() if any(name in row for row in rows)}
    return pa.table({name: pa.array([row.get(name) for row in rows], kind) for name, kind in there.items()})


def _json_lines(file: str, kinds: Kinds) -> pa.Table:
    known = pa.schema([(name, kind) for name, kind in kinds.items() if kind is not None])
    with opened(file) as raw:
        return pyarrow.json.read_json(
            raw,
            read_options=pyarrow.json.ReadOptions(block_size=BLOCK),
            parse_options=pyarrow.json.ParseOptions(explicit_schema=known),
        )


def _parquet(file: str, kinds: Kinds) -> pa.Table:
    with opened(file) as raw, pq.ParquetFile(raw) as table:
        return table.read([name for name in kinds if name in table.schema_arrow.names])
