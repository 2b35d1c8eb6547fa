"""A row of a list that cannot be read, and the check for bytes that are not UTF-8."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from formats.lists.files import format_of
from pairloom.errors import InputError

MOST = 10_000  # characters of a bad row that are kept
# Halves of surrogate pairs, which JSON may name, other than those that `surrogateescape` makes of bytes.
FOREIGN_HALVES = re.compile("[\ud800-\udc7f\udd00-\udfff]")


@dataclass(frozen=True)
class Bad:
    """A row that is left out: its text as it stands in the file, and what is wrong with it.

    Bytes that are not UTF-8 are in `text` as Python's `surrogateescape` has them. `shown` has them as \\xe9.
    """

    text: str
    said: str
    fix: str = "correct the row, or take it out of the list"

    @classmethod
    def not_utf8(cls, text: str) -> Self:
        try:
            as_utf8(text)
        except UnicodeDecodeError as error:
            return cls(text, f"a byte is not UTF-8: {error}", "save the list as UTF-8")
        raise AssertionError("the text is UTF-8")

    @property
    def shown(self) -> str:
        """The text as UTF-8 can hold it, at most 10,000 characters."""
        halves = FOREIGN_HALVES.sub("\ufffd", self.text[:MOST])
        return halves.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")

    def error(self, file: str, number: int) -> InputError:
        """What is raised where no row may be left out."""
        unit = "row" if format_of(file) in ("json", "parquet") else "line"
        return InputError(self.said, f"{file}, {unit} {number}", self.fix)


def is_utf8(text: str) -> bool:
    """Whether text that was decoded with `surrogateescape` was UTF-8."""
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def as_utf8(text: str) -> str:
    """The text again. Raises UnicodeDecodeError, with the byte, if it was not UTF-8."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8")
