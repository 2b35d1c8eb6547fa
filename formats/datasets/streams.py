"""JSON files of gigabytes, read item by item: only one item, and the text that it is in, is in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, TextIO

from formats.lists.bad import is_utf8
from pairloom.errors import InputError

PIECE = 1 << 20  # characters
SPACE = " \t\r\n"


def items(stream: TextIO, where: str) -> Iterator[tuple[str, Any]]:
    """(key, item) of each item of the lists of an object, in order. Of a list, each with the key "".

    A value of the object that is no list comes as it is. Raises InputError if the text is no JSON, with the place.
    """
    yield from _Reader(stream, where).items()


class _Reader:
    def __init__(self, stream: TextIO, where: str) -> None:
        self._stream, self._where = stream, where
        self._text, self._at, self._before = "", 0, 0  # before: characters that were dropped
        self._decoder = json.JSONDecoder()

    def items(self) -> Iterator[tuple[str, Any]]:
        start = self._peek()
        if start == "[":
            yield from (("", item) for item in self._list())
        elif start == "{":
            yield from self._object()
        else:
            raise self._wrong("it holds neither a list nor an object")

    def _object(self) -> Iterator[tuple[str, Any]]:
        self._take("{")
        if self._peek() == "}":
            return
        while True:
            key = self._value()
            self._take(":")
            if self._peek() == "[":
                yield from ((key, item) for item in self._list())
            else:
                yield key, self._value()
            if self._peek() == "}":
                return
            self._take(",")

    def _list(self) -> Iterator[Any]:
        self._take("[")
        if self._peek() == "]":
            self._at += 1
            return
        while True:
            yield self._value()
            if self._peek() == "]":
                self._at += 1
                return
            self._take(",")

    def _peek(self) -> str:
        """The next character that is no white space. "" at the end."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in SPACE:
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more(PIECE):
                return ""

    def _take(self, wanted: str) -> None:
        if (found := self._peek()) != wanted:
            raise self._wrong(f"{found!r} stands where {wanted!r} should" if found else "it ends early")
        self._at += 1

    def _value(self) -> Any:
        self._peek()
        size = PIECE
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if self._more(size):
                    size *= 2  # so that a long value is not read over and over again
                    continue
                raise self._wrong(error.msg) from error
            except RecursionError as error:
                raise self._wrong("it is nested too deeply") from error
            if end < len(self._text) or not self._more(PIECE):  # a number may go on in the next piece
                self._at = end
                return value

    def _more(self, size: int) -> bool:
        piece = self._stream.read(size)
        if not is_utf8(piece):
            raise self._wrong("a byte is not UTF-8")
        self._before += self._at
        self._text, self._at = self._text[self._at :] + piece, 0
        return bool(piece)

    def _wrong(self, said: str) -> InputError:
        where = f"{self._where}, character {self._before + self._at}"
        return InputError(f"it cannot be read as JSON: {said}", where, "repair the file, or fetch it again")
