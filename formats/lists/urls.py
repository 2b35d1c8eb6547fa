"""Reads a user's list of pairs, in the formats that img2dataset takes, as table `urls`.

Its `reader.Reader` is not used: it guesses types (a caption "007" comes out as 7, "null" as nothing), cuts txt lines
at commas, fails on a line break within a quoted caption, prints to standard output, and holds the whole list in memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from formats.lists import records
from formats.lists.bad import Bad
from formats.lists.columns import ListColumns
from formats.lists.files import files, format_of
from pairloom.errors import InputError
from pairloom.extra import as_extra
from schemas.urls import URLS

DIGITS = {32: "md5", 64: "sha256"}


@dataclass(frozen=True)
class Pair:
    """One row of table `urls`."""

    url: str
    captions: list[dict[str, str | None]]
    licence: str | None
    source: str | None
    checksum: str | None
    extra: dict[str, str]


Row = tuple[str, int, "Pair | Bad"]  # file, number, and what is there


@dataclass(frozen=True)
class BadRow:
    """A row of the list that is left out."""

    after: int  # good rows of the list before it
    file: str  # the file's name, without its folder
    number: int  # of its line, or of the row in json and parquet, counted from 1
    said: str  # what is wrong with it
    text: str  # as it stands there


@dataclass(frozen=True)
class Part:
    """Rows of a list that follow each other, as table `urls`, and the bad rows among and right after them."""

    rows: pa.Table
    bad: tuple[BadRow, ...] = ()


@dataclass
class _Batch:
    pairs: list[Pair] = field(default_factory=list)
    bad: list[BadRow] = field(default_factory=list)

    def part(self) -> Part:
        return Part(_table(self.pairs), tuple(self.bad))


def read(path: Path | str, columns: ListColumns, rows: int) -> Iterator[Part]:
    """The list, or all lists of a folder by name, in parts of so many good rows, the last one shorter.

    A row without a URL, of another number of fields, or that is not UTF-8 is a bad row. Raises InputError, with file,
    row, value and cure, if a file cannot be read, a column is missing, more rows are bad than good, or there is none.
    """
    yield from parts(listed_rows(files(str(path)), columns), rows, str(path))


def parts(listed: Iterable[Row], rows: int, where: str) -> Iterator[Part]:
    """These rows in parts of so many good ones. Raises InputError as `read` does; where: the list in messages."""
    batch, good, bad = _Batch(), 0, 0
    first: InputError | None = None
    for file, number, row in listed:
        if isinstance(row, Bad):
            first, bad = first or row.error(file, number), bad + 1
            batch.bad.append(BadRow(good, PurePosixPath(file).name, number, row.said, row.shown))
            continue
        if len(batch.pairs) == rows:
            _refuse_if_most_are_bad(first, bad, good)
            yield batch.part()
            batch = _Batch()
        batch.pairs.append(row)
        good += 1
    _refuse_if_most_are_bad(first, bad, good)
    if not good:
        raise InputError("the list has no rows", where, "name a list with at least one URL (sample.urls)")
    yield batch.part()


def _refuse_if_most_are_bad(first: InputError | None, bad: int, good: int) -> None:
    if first is not None and bad > good:
        said, where, fix = first.args
        raise InputError(f"{said} ({bad} of the first {bad + good} rows are bad; this is the first)", where, fix)


def _table(pairs: list[Pair]) -> pa.Table:
    return URLS.table(
        url=[pair.url for pair in pairs],
        captions=[pair.captions for pair in pairs],
        licence=[pair.licence for pair in pairs],
        source=[pair.source for pair in pairs],
        checksum=[pair.checksum for pair in pairs],
        extra=[as_extra(pair.extra) for pair in pairs],
    )


def listed_rows(listed: Iterable[str], config: ListColumns) -> Iterator[Row]:
    """(file, number, row) of each row of these files."""
    for file in listed:
        only_urls = format_of(file) == "txt"  # each line is a URL, whatever the columns are called
        url_column = "line" if only_urls else config.url_column
        needed = [] if only_urls else config.must_exist()
        _refuse_bytes(file, config)
        for numbered in records.numbered_rows(file, config.columns, config.quotes):
            row = numbered.row
            if only_urls and not isinstance(row, Bad) and not row["line"].strip():
                continue
            yield file, numbered.number, row if isinstance(row, Bad) else pair_of(row, url_column, needed, config)


def _refuse_bytes(file: str, config: ListColumns) -> None:
    """Raise InputError if a column that would be carried along holds bytes, such as pictures."""
    read_here = {config.url_column, *config.captions, *config.optional_columns().values(), *config.drop}
    carried = [name for name in records.columns_of_bytes(file) if name not in read_here]
    if carried:
        raise InputError(
            f"column {carried[0]!r} holds bytes, which the table urls cannot carry along",
            file,
            f"leave it out: sample.drop: [{', '.join(carried)}] in params.yaml",
        )


class _BadRowError(Exception):
    """Says what is wrong with a row, and the cure."""


def pair_of(record: records.Record, url_column: str, needed: list[str], config: ListColumns) -> Pair | Bad:
    """A record as a row of table `urls`.

    url_column: that of the URL or locator; needed: the columns that it must have.
    """
    try:
        return _checked_pair(record, url_column, needed, config)
    except _BadRowError as error:
        return Bad(records.as_json(record), *error.args)


def _checked_pair(record: records.Record, url_column: str, needed: list[str], config: ListColumns) -> Pair:
    for column in needed:
        if column not in record:
            raise _BadRowError(
                f"there is no column {column!r}; there are: {', '.join(map(repr, record)) or 'none'}",
                "name the list's columns in params.yaml: sample.url_column, sample.caption_column, …",
            )
    optional = config.optional_columns()
    url = (text(record[url_column]) or "").strip()
    if not url:
        raise _BadRowError(
            f"column {url_column!r} is {record[url_column]!r}", "give the row a URL, or take it out of the list"
        )
    known = {url_column, *config.captions, *optional.values(), *config.drop}
    return Pair(
        url=url,
        captions=_captions(record, config),
        licence=text(record.get(optional["licence"])),
        source=text(record.get(optional["source"])),
        checksum=_checksum(record.get(optional["checksum"])),
        extra={key: value for key in record if key not in known and (value := text(record[key])) is not None},
    )


def _captions(record: records.Record, config: ListColumns) -> list[dict[str, str | None]]:
    """The row's captions with their languages. An empty one is no caption."""
    listed = [(item, config.kind_of(name)) for name in config.captions for item in _items(record.get(name))]
    spoken = _items(record.get(config.lang_column))
    langs = spoken * len(listed) if len(spoken) == 1 else spoken or [None] * len(listed)
    if len(langs) != len(listed):
        raise _BadRowError(
            f"{len(listed)} captions have {len(langs)} languages",
            f"give column {config.lang_column!r} one language for all captions of the row, or one for each",
        )
    captions = []
    for (item, kind), lang in zip(listed, langs, strict=True):
        item = item if isinstance(item, dict) else {"text": item}
        caption = text(item.get("text"))
        if caption is not None:
            spoken_in = text(item.get("lang")) or text(lang)
            captions.append({"text": caption, "lang": spoken_in, "kind": text(item.get("kind")) or kind})
    return captions


def _items(value: Any) -> list[Any]:
    """A list as it is, a JSON list in text as a list, nothing as an empty list, anything else as a list of one."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        value = records.json_list(value)
    if isinstance(value, list):
        return value
    return [] if text(value) is None else [value]


def _checksum(value: Any) -> str | None:
    digits = text(value)
    if digits is None:
        return None
    kind, _, plain = digits.strip().lower().rpartition(":")
    kind = kind or DIGITS.get(len(plain), "")
    if re.fullmatch(r"[0-9a-f]+", plain) and DIGITS.get(len(plain)) == kind:
        return f"{kind}:{plain}"
    raise _BadRowError(
        f"the checksum {digits!r} is neither MD5 nor SHA-256",
        "write md5: and 32 or sha256: and 64 hexadecimal digits, or leave it empty",
    )


def text(value: Any) -> str | None:
    """A value as text: JSON where it is neither text nor bytes of UTF-8.

    None if it is missing, not a number, or empty, which csv cannot tell apart.
    """
    if value is None or value in ("", b"") or value != value:
        return None
    plain = _decoded(value) if isinstance(value, bytes) else value
    plain = plain if isinstance(plain, str) else records.as_json(plain)
    # JSON may carry half a surrogate pair, which no UTF-8 can hold.
    return plain if plain.isascii() else plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _decoded(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _BadRowError(f"bytes that should be text are not UTF-8: {error}", "store the column as text") from error
