"""What the lists of published collections have in common: columns of their own names, and their oddities."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow.parquet as pq

from formats.datasets.opened import Data
from formats.lists.bad import Bad
from formats.lists.columns import ListColumns
from formats.lists.files import files, format_of
from formats.lists.urls import Pair, Row, listed_rows
from pairloom.errors import InputError

URLS = ("http://", "https://")


@dataclass(frozen=True)
class Published:
    """How a collection's list differs from one of ours."""

    names: Mapping[str, str] = field(default_factory=dict)  # setting -> the column's name there
    columns: tuple[str, ...] = ()  # where there is no header line
    quotes: bool = True
    none: tuple[str, ...] = ()  # values of licence and language that stand for none


def rows(data: Data, published: Published) -> Iterator[Row]:
    """The list's rows. Columns that the user named, and a header that somebody put there, are heeded."""
    own = data.columns
    default = ListColumns()
    named: dict[str, Any] = {
        key: name for key, name in published.names.items() if getattr(own, key) == getattr(default, key)
    }
    columns = own.columns or published.columns
    # A plain ListColumns: the settings of the stage know nothing of what follows.
    plain = ListColumns(**{key: getattr(own, key) for key in ListColumns.__dataclass_fields__})
    listed = replace(plain, **named, columns=columns, quotes=own.quotes and published.quotes)
    for file, number, row in listed_rows(files(data.place), _there(data, listed)):
        if number == 1 and isinstance(row, Pair) and row.url == listed.url_column:
            continue  # the line that img2dataset's guides say to put at the beginning
        yield file, number, row if isinstance(row, Bad) else _plain(row, published.none, data.source)


def _there(data: Data, columns: ListColumns) -> ListColumns:
    """The columns, of which those beyond url and caption may be missing in some editions of a list."""
    default, first = ListColumns(), files(data.place)[0]
    if format_of(first) != "parquet":
        return columns
    there = _columns_of(first)
    missing = {
        f"{purpose}_column": getattr(default, f"{purpose}_column")
        for purpose, name in columns.optional_columns().items()
        if name not in there
    }
    return replace(columns, **missing)


def _plain(row: Pair, none: Collection[str], source: str) -> Pair:
    captions = [{**each, "lang": None if each["lang"] in none else each["lang"]} for each in row.captions]
    licence = None if row.licence in none else row.licence
    return replace(row, captions=captions, licence=licence, source=row.source or source)


def without_header(data: Data, url_first: bool) -> str | None:
    """Why a tsv looks like URL and caption, in this order, without a header."""
    found = data.named(".tsv")
    if not found:
        return None
    fields = data.head(found[0]).partition("\n")[0].split("\t")
    if len(fields) == 2 and [field.startswith(URLS) for field in fields] == [url_first, not url_first]:
        return f"the first line of {found[0]} is {'URL and caption' if url_first else 'caption and URL'}, with a tab"
    return None


def with_columns(data: Data, marks: Collection[str]) -> str | None:
    """Why a Parquet list looks like one with these columns."""
    for file in data.named(".parquet")[:1]:
        if set(marks) <= set(_columns_of(data.where(file))):
            return f"{file} has the columns {', '.join(sorted(marks))}"
    return None


def _columns_of(file: str) -> list[str]:
    from formats.lists.files import UNREADABLE, opened, unreadable

    try:
        with opened(file) as raw, pq.ParquetFile(raw) as table:
            return list(table.schema_arrow.names)
    except UNREADABLE as error:
        raise unreadable(file, error, file) from error


__all__ = ["InputError", "Published", "rows", "with_columns", "without_header"]
