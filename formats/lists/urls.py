"""Reads a user's list of pairs, in the formats that img2dataset takes, as table `urls`.

Its `reader.Reader` is not used: it guesses types (a caption "007" comes out as 7, "null" as nothing), cuts txt lines
at commas, fails on a line break within a quoted caption, prints to standard output, and holds the whole list in memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from formats.lists import records
from formats.lists.columns import ListColumns
from formats.lists.files import files, format_of
from pairloom.errors import InputError
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


def read(path: Path | str, columns: ListColumns, rows: int) -> Iterator[pa.Table]:
    """The list, or all lists of a folder by name, as tables of so many rows, the last one shorter.

    Raises InputError, with file, row, value and cure, if a file cannot be read, a column is missing, a URL is empty,
    or there is no row at all.
    """
    pairs = chain.from_iterable(_pairs(file, columns) for file in files(str(path)))
    empty = True
    while batch := list(islice(pairs, rows)):
        empty = False
        yield _table(batch)
    if empty:
        raise InputError("the list has no rows", str(path), "name a list with at least one URL (sample.urls)")


def _table(pairs: list[Pair]) -> pa.Table:
    return URLS.table(
        url=[pair.url for pair in pairs],
        captions=[pair.captions for pair in pairs],
        licence=[pair.licence for pair in pairs],
        source=[pair.source for pair in pairs],
        checksum=[pair.checksum for pair in pairs],
        extra=[list(pair.extra.items()) for pair in pairs],
    )


def _pairs(file: str, config: ListColumns) -> Iterator[Pair]:
    only_urls = format_of(file) == "txt"  # each line is a URL, whatever the columns are called
    needed = [] if only_urls else config.must_exist()
    rows = records.read(file, config.columns, config.quotes)
    filled = (row for row in rows if row["line"].strip()) if only_urls else rows
    for number, record in enumerate(filled, 1):
        where = f"{file}, row {number}"
        for column in needed:
            if column not in record:
                raise InputError(
                    f"there is no column {column!r}; there are: {', '.join(map(repr, record)) or 'none'}",
                    where=where,
                    fix="name the list's columns in params.yaml: sample.url_column, sample.caption_column, …",
                )
        yield _pair(record, "line" if only_urls else config.url_column, config, where)


def _pair(record: records.Record, url_column: str, config: ListColumns, where: str) -> Pair:
    optional = config.optional_columns()
    url = (text(record[url_column]) or "").strip()
    if not url:
        raise InputError(
            f"column {url_column!r} is {record[url_column]!r}", where, "give the row a URL, or take it out of the list"
        )
    known = {url_column, config.caption_column, *optional.values()}
    return Pair(
        url=url,
        captions=_captions(record, config, where),
        licence=text(record.get(optional["licence"])),
        source=text(record.get(optional["source"])),
        checksum=_checksum(record.get(optional["checksum"]), where),
        extra={key: value for key in record if key not in known and (value := text(record[key])) is not None},
    )


def _captions(record: records.Record, config: ListColumns, where: str) -> list[dict[str, str | None]]:
    """The row's captions with their languages; an empty one is no caption."""
    listed = _items(record.get(config.caption_column) if config.caption_column else None)
    spoken = _items(record.get(config.lang_column))
    langs = spoken * len(listed) if len(spoken) == 1 else spoken or [None] * len(listed)
    if len(langs) != len(listed):
        raise InputError(
            f"{len(listed)} captions have {len(langs)} languages",
            where,
            f"give column {config.lang_column!r} one language for all captions of the row, or one for each",
        )
    captions = []
    for item, lang in zip(listed, langs, strict=True):
        item = item if isinstance(item, dict) else {"text": item}
        caption = text(item.get("text"))
        if caption is not None:
            captions.append({"text": caption, "lang": text(item.get("lang")) or text(lang)})
    return captions


def _items(value: Any) -> list[Any]:
    """A list as it is, a JSON list in text as a list, nothing as an empty list, anything else as a list of one."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        value = records.json_list(value)
    if isinstance(value, list):
        return value
    return [] if text(value) is None else [value]


def _checksum(value: Any, where: str) -> str | None:
    digits = text(value)
    if digits is None:
        return None
    kind, _, plain = digits.strip().lower().rpartition(":")
    kind = kind or DIGITS.get(len(plain), "")
    if re.fullmatch(r"[0-9a-f]+", plain) and DIGITS.get(len(plain)) == kind:
        return f"{kind}:{plain}"
    raise InputError(
        f"the checksum {digits!r} is neither MD5 nor SHA-256",
        where,
        "write md5: and 32 or sha256: and 64 hexadecimal digits, or leave it empty",
    )


def text(value: Any) -> str | None:
    """A value as text: JSON where it is not text yet; None if it is missing or empty, which csv cannot tell apart."""
    if value is None or value == "":
        return None
    plain = value if isinstance(value, str) else records.as_json(value)
    # JSON may carry half a surrogate pair, which no UTF-8 can hold.
    return plain if plain.isascii() else plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
