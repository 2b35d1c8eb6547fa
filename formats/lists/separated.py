"""Rows of csv and tsv, with Python's csv module. A line that is no row costs no other line."""

from __future__ import annotations

import csv
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, TextIO

from formats.lists.bad import Bad, is_utf8

MOST_LINES = 1000  # of one row: where a quotation mark is not closed, no more are looked at to find its end
QUOTES = "correct the row, or set sample.quotes: false where quotation marks are letters like any other"
Row = dict[str, Any] | Bad


def read(stream: TextIO, delimiter: str, columns: Sequence[str], quotes: bool) -> Iterator[tuple[int, Row]]:
    """(number of its first line, row) of each row. Raises csv.Error if the header cannot be read.

    Where a quotation mark swallows the lines after it, the first of these lines is the bad one: the others are read
    again by themselves.
    """
    csv.field_size_limit(sys.maxsize >> 33)  # the default refuses a field over 128 KiB. This is a C long everywhere
    lines = _Lines(stream)
    rows = _reader(lines, delimiter, quotes)
    header = _header(rows, delimiter, columns)
    if not columns:
        lines.used()
    kind = "tsv" if delimiter == "\t" else "csv"
    wanted = f"{len(header)} names of columns are given" if columns else f"the header {len(header)}"
    while True:
        number = lines.first
        try:
            fields = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield number, Bad(lines.reject_first(), f"it cannot be read as {kind}: {error}", QUOTES)
            rows = _reader(lines, delimiter, quotes)
            continue
        if fields and len(fields) != len(header):
            said = f"it has {len(fields)} fields, {wanted}"
            if len(lines.taken) > 1:
                rows = _reader(lines, delimiter, quotes)
            yield number, Bad(lines.reject_first(), said)
            continue
        if fields:
            text = "".join(lines.taken)
            yield number, dict(zip(header, fields, strict=True)) if is_utf8(text) else Bad.not_utf8(text)
        lines.used()


def _header(rows: Iterator[list[str]], delimiter: str, columns: Sequence[str]) -> list[str]:
    header = unique(list(columns) or next(rows, []))
    for other, name in ((";", "semicolons"), ("\t", "tabs"), (",", "commas")):
        if len(header) == 1 and other in header[0] and other != delimiter:
            raise csv.Error(f"the header has one column, {header[0]!r}: its fields are separated by {name}")
    return header


def unique(header: list[str]) -> list[str]:
    """The header. Raises csv.Error if two columns have one name."""
    doubled = sorted({name for name in header if header.count(name) > 1})
    if doubled:
        raise csv.Error(f"two columns are called {doubled[0]!r}")
    return header


def _reader(lines: _Lines, delimiter: str, quotes: bool) -> Iterator[list[str]]:
    if quotes:
        return csv.reader(lines, delimiter=delimiter, strict=True)
    return csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE, strict=True)


class _Lines:
    """The lines of a stream for a csv.reader, some of which can be read once more."""

    def __init__(self, stream: TextIO) -> None:
        self.first = 1  # number of the first line that is not used up
        self.taken: list[str] = []  # lines read since then
        self._again: deque[str] = deque()
        self._stream = stream

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        if len(self.taken) == MOST_LINES:
            raise csv.Error(f"a quotation mark is not closed within {MOST_LINES} lines")
        line = self._again.popleft() if self._again else next(self._stream)
        self.taken.append(line)
        return line

    def used(self) -> None:
        """The lines taken make up a row."""
        self.first += len(self.taken)
        self.taken.clear()

    def reject_first(self) -> str:
        """The first line taken, without its end. The others will be read again."""
        line, *others = self.taken
        self._again.extendleft(reversed(others))
        self.first += 1
        self.taken.clear()
        return line.rstrip("\r\n")
