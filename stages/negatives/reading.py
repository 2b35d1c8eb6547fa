"""Read a file of captions: txt, csv, tsv, json lines or parquet, with the columns image_id, caption and lang."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from pairloom.errors import InputError

FORMATS = {".txt": "txt", ".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}


@dataclass(frozen=True, kw_only=True)
class Columns:
    """What the columns are called; lang may be missing."""

    image_id: str = "image_id"
    caption: str = "caption"
    lang: str = "lang"


@dataclass(frozen=True)
class Listed:
    """The captions of a file, row by row."""

    ids: pa.Array  # as given: text, or whole numbers (json lines, parquet)
    texts: pa.Array  # large_string
    langs: pa.Array  # string, null if unknown


def read_captions(path: Path, columns: Columns | None = None) -> Listed:
    """The captions of a file. A txt file has one a line, each of an image of its own, named by the line's number.

    Raises InputError, with the row and a cure, if the file or a column cannot be read, or an id or caption is missing.
    """
    columns = columns or Columns()
    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        raise InputError(f"{path.suffix or 'no suffix'} is no known format", str(path), f"name it {', '.join(FORMATS)}")
    try:
        if kind == "txt":
            return _lines(path)
        table = _table(path, kind, columns)
    except OSError as error:
        raise InputError(
            f"cannot read it: {error.strerror or error}", str(path), "name a file that is there"
        ) from error
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowKeyError) as error:
        raise InputError(f"it is not a {kind} file with these columns: {error}", str(path), "mend it") from error
    return _checked(table, columns, path)


def _lines(path: Path) -> Listed:
    raw = path.read_bytes()
    try:
        lines = raw.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise InputError(f"line {line} is no UTF-8: {error}", str(path), "save the file as UTF-8") from error
    if lines[-1] == "":
        lines.pop()
    texts = pa.array([line.removesuffix("\r") for line in lines], pa.large_string())
    width = len(str(len(lines)))  # so that the ids' order is that of the lines
    ids = pa.array([f"{number:0{width}d}" for number in range(1, len(lines) + 1)], pa.string())
    return Listed(ids, texts, pa.nulls(len(lines), pa.string()))


def _table(path: Path, kind: str, columns: Columns) -> pa.Table:
    if kind == "parquet":
        there = pq.read_schema(path).names
        return pq.read_table(path, columns=[name for name in vars(columns).values() if name in there])
    if kind == "jsonl":
        texts = pa.schema([(columns.caption, pa.large_string()), (columns.lang, pa.string())])
        return pyarrow.json.read_json(
            path,
            read_options=pyarrow.json.ReadOptions(block_size=1 << 24),
            parse_options=pyarrow.json.ParseOptions(explicit_schema=texts),
        )
    kinds = {columns.image_id: pa.string(), columns.caption: pa.large_string(), columns.lang: pa.string()}
    return pyarrow.csv.read_csv(
        path,
        read_options=pyarrow.csv.ReadOptions(block_size=1 << 24),
        parse_options=pyarrow.csv.ParseOptions(delimiter="\t" if kind == "tsv" else ",", newlines_in_values=True),
        convert_options=pyarrow.csv.ConvertOptions(column_types=kinds, strings_can_be_null=False),
    )


def _checked(table: pa.Table, columns: Columns, path: Path) -> Listed:
    for name in (columns.image_id, columns.caption):
        if name not in table.column_names:
            raise InputError(
                f"there is no column {name!r}; there are: {', '.join(table.column_names) or 'none'}",
                str(path),
                "rename the column, or name it with --image-column, --caption-column and --lang-column",
            )
        if table[name].null_count:
            row = pc.is_null(table[name]).index(True).as_py()
            raise InputError(f"{name} is missing", f"{path}, row {row + 1}", "give the row one, or take it out")
    ids = table[columns.image_id].combine_chunks()
    if not (pa.types.is_integer(ids.type) or pa.types.is_fixed_size_binary(ids.type)):
        ids = ids.cast(pa.string())
    langs = pa.nulls(len(table), pa.string())
    if columns.lang in table.column_names:
        langs = table[columns.lang].combine_chunks().cast(pa.string())
        langs = pc.if_else(pc.equal(langs, ""), pa.scalar(None, pa.string()), langs)
    return Listed(ids, table[columns.caption].combine_chunks().cast(pa.large_string()), langs)
