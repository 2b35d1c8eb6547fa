"""Read lists of captions, with the columns image_id, caption and lang."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from formats.lists import records, tables
from formats.lists.files import UNREADABLE, files, format_of, opened, unreadable
from pairloom.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Columns:
    """What the columns are called. `lang` may be missing."""

    image_id: str = "image_id"
    caption: str = "caption"
    lang: str = "lang"


@dataclass(frozen=True)
class Listed:
    """The captions of a list, row by row."""

    ids: pa.Array  # as given: text, or whole numbers (json, json lines, parquet)
    texts: pa.Array  # large_string
    langs: pa.Array  # string, null if unknown


def read_captions(name: str, columns: Columns | None = None) -> Listed:
    """The captions of a list, or of all lists of a folder by name.

    A txt file has one a line, each of an image of its own, named by the line's number.
    Raises InputError, with the row and a cure, if a file or a column cannot be read, or an id or caption is missing.
    """
    columns = columns or Columns()
    listed = files(name)
    plain = [file for file in listed if format_of(file) == "txt"]
    if plain and len(plain) < len(listed):
        raise InputError("only some of its lists are txt, which has no image ids", name, "name lists of one kind")
    if plain:
        return _numbered([line for file in listed for line in _lines(file)])
    parts = [_columns(file, columns) for file in listed]
    try:
        ids = pa.chunked_array([part.ids for part in parts])
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        kinds = sorted({str(part.ids.type) for part in parts})
        fix = "give the image ids one type in all of its lists"
        raise InputError(f"{columns.image_id} is {' here and '.join(kinds)} there", name, fix) from error
    texts, langs = (pa.chunked_array([getattr(part, column) for part in parts]) for column in ("texts", "langs"))
    return Listed(ids.combine_chunks(), texts.combine_chunks(), langs.combine_chunks())


def _lines(file: str) -> list[str]:
    try:
        with opened(file) as stream:
            raw = stream.read()
        lines = raw.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        row = raw.count(b"\n", 0, error.start) + 1
        raise unreadable(file, error, f"{file}, row {row}") from error
    except UNREADABLE as error:
        raise unreadable(file, error, file) from error
    if lines[-1] == "":
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def _numbered(lines: list[str]) -> Listed:
    width = len(str(len(lines)))  # so that the ids' order is that of the lines
    ids = pa.array([f"{number:0{width}d}" for number in range(1, len(lines) + 1)], pa.string())
    return Listed(ids, pa.array(lines, pa.large_string()), pa.nulls(len(lines), pa.string()))


def _columns(file: str, columns: Columns) -> Listed:
    table = tables.read(file, {columns.image_id: None, columns.caption: pa.large_string(), columns.lang: pa.string()})
    for name in (columns.image_id, columns.caption):
        if name not in table.column_names:
            there = list(next(records.read(file), {})) or table.column_names
            raise InputError(
                f"there is no column {name!r}; there are: {', '.join(there) or 'none'}",
                file,
                "rename the column, or name it with --image-column, --caption-column and --lang-column",
            )
        if table[name].null_count:
            row = pc.is_null(table[name]).index(True).as_py()
            raise InputError(f"{name} is missing", f"{file}, row {row + 1}", "give the row one, or take it out")
    ids = table[columns.image_id].combine_chunks()
    if not (pa.types.is_integer(ids.type) or pa.types.is_fixed_size_binary(ids.type)):
        ids = _cast(ids, pa.string(), columns.image_id, file)
    langs = pa.nulls(len(table), pa.string())
    if columns.lang in table.column_names:
        langs = _cast(table[columns.lang].combine_chunks(), pa.string(), columns.lang, file)
        langs = pc.if_else(pc.equal(langs, ""), pa.scalar(None, pa.string()), langs)
    return Listed(ids, _cast(table[columns.caption].combine_chunks(), pa.large_string(), columns.caption, file), langs)


def _cast(array: pa.Array, kind: pa.DataType, column: str, file: str) -> pa.Array:
    try:
        return array.cast(kind)
    except pa.ArrowException as error:
        raise InputError(f"{column} is {array.type}, not text: {error}", file, "write that column as text") from error
