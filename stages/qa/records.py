"""Reads a large JSON file entry by entry: its text is in memory, but not the objects of a million questions at once."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Generator, Iterator
from pathlib import Path
from typing import Any

from pairloom.errors import InputError

DECODER = json.JSONDecoder()
SPACE = re.compile(r"[ \t\n\r]*")
CLOSING = {"[": "]", "{": "}"}

Entry = tuple[str | int, Any]  # key of an object, or number in a list, from 1, and the value


def records(file: str | Path, inside: Collection[str] = ()) -> Iterator[Entry]:
    """The entries of the list or object that a JSON file is, in order.

    inside: keys of the outermost object whose lists are not one entry but give theirs. Raises InputError, with the
    entry, line and column, where the file is missing or not JSON.
    """
    done: str | int = 0
    try:
        text = Path(file).read_text(encoding="utf-8-sig")
        for key, value in _whole(text, inside):
            done = key
            yield key, value
    except OSError as error:
        raise InputError(f"it cannot be read: {error.strerror}", str(file), "correct qa.sources") from error
    except UnicodeDecodeError as error:
        raise InputError(f"a byte is not UTF-8: {error}", str(file), "save it as UTF-8") from error
    except json.JSONDecodeError as error:
        where = f"{file}, after entry {done}, line {error.lineno}, column {error.colno}"
        raise InputError(f"it is not JSON: {error.msg}", where, "fetch the file again, or correct it there") from error
    except RecursionError as error:
        raise InputError("its lists are too deep", f"{file}, after entry {done}", "fetch the file again") from error


def _whole(text: str, inside: Collection[str]) -> Iterator[Entry]:
    end = yield from _entries(text, _skip(text, 0), inside)
    if (end := _skip(text, end)) != len(text):
        raise json.JSONDecodeError("something follows its end", text, end)


def _entries(text: str, at: int, inside: Collection[str]) -> Generator[Entry, None, int]:
    """The entries of the list or object at this position. Returns the position behind it."""
    closing = CLOSING.get(text[at : at + 1])
    if closing is None:
        raise json.JSONDecodeError("neither a list nor an object", text, at)
    at, number = _skip(text, at + 1), 0
    if text[at : at + 1] == closing:
        return at + 1
    while True:
        number += 1
        key: str | int = number
        if closing == "}":
            key, at = _key(text, at)
        if key in inside and text[at : at + 1] == "[":
            at = yield from _entries(text, at, ())
        else:
            value, at = DECODER.raw_decode(text, at)
            yield key, value
        at = _skip(text, at)
        if text[at : at + 1] == closing:
            return at + 1
        if text[at : at + 1] != ",":
            raise json.JSONDecodeError(f"a comma or {closing} is missing", text, at)
        at = _skip(text, at + 1)


def _key(text: str, at: int) -> tuple[str, int]:
    """(key, position of its value)."""
    key, at = DECODER.raw_decode(text, at)
    at = _skip(text, at)
    if not isinstance(key, str) or text[at : at + 1] != ":":
        raise json.JSONDecodeError("not a key and a colon", text, at)
    return key, _skip(text, at + 1)


def _skip(text: str, at: int) -> int:
    found = SPACE.match(text, at)
    assert found is not None  # it may match nothing
    return found.end()
