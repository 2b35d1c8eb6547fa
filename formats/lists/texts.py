"""Read lists of texts without images, with the columns text and perhaps lang. A txt file has one text a line."""

from __future__ import annotations

from collections.abc import Iterator

from formats.lists import records
from formats.lists.files import files, format_of
from pairloom.errors import InputError

Text = tuple[str, str | None]  # with its language, None where the list does not say it


def read_texts(name: str) -> Iterator[Text]:
    """The texts of a list, or of all lists of a folder by name, in their order, a few in memory at a time.

    White space around a text is taken off. One that is missing is empty.
    Raises InputError, with the row and a cure, if a file cannot be read or a value is not text.
    """
    for file in files(name):
        column = "line" if format_of(file) == "txt" else "text"
        for number, record in enumerate(records.read(file), 1):
            where = f"{file}, row {number}"
            if column not in record:
                there = ", ".join(map(repr, record)) or "none"
                raise InputError(f"there is no column 'text'; there are: {there}", where, "name the column text")
            yield (_text(record, column, where) or "").strip(), _text(record, "lang", where) or None


def _text(record: records.Record, column: str, where: str) -> str | None:
    value = record.get(column)
    if isinstance(value, str | None):
        return value
    fix = f'give the row a {column} that is text, such as {{"text": "A dog.", "lang": "en"}}'
    raise InputError(f"column {column!r} is {str(value)[:80]!r}", where, fix)
