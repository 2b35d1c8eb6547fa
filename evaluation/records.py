"""Users' files of a test: JSON lines, a JSON list or one JSON object of records, as their authors publish them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pairloom.errors import InputError


@dataclass(frozen=True)
class Record:
    """One record, and where it stands."""

    values: Mapping[str, Any]
    where: str

    def text(self, *names: str) -> str:
        """The text under the first of these names that is there. Raises InputError."""
        for name in names:
            value = self.values.get(name)
            if isinstance(value, str) and value.strip():
                return value
        raise InputError(f"it has no text {' or '.join(names)}", self.where, "see docs/how-to/evaluate.md for its form")

    def numbers(self, name: str, count: int) -> tuple[float, ...]:
        """So many numbers under this name. Raises InputError."""
        value = self.values.get(name)
        fits = isinstance(value, list) and len(value) == count
        if not fits or not all(isinstance(one, int | float) and not isinstance(one, bool) for one in value or ()):
            raise InputError(f"{name} is {value!r}", self.where, f"write {count} numbers")
        return tuple(float(one) for one in value or ())


@dataclass(frozen=True)
class Quad:
    """A set of Winoground: image 0 goes with caption 0, and 1 with 1."""

    images: tuple[str, str]
    captions: tuple[str, str]
    tag: str
    where: str


@dataclass(frozen=True)
class Pair:
    """A right caption of an image and a wrong one that is much like it (SugarCrepe)."""

    image: str
    right: str
    wrong: str
    where: str


def records(path: Path) -> Iterator[Record]:
    """The records of a file: a list of objects, an object of objects, or an object a line, whatever the file's ending.

    Raises InputError where it is not JSON, or holds none.
    """
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"it cannot be read: {error}", str(path), "check the path") from error
    found = list(_entries(content, path))
    if not found:
        raise InputError("it holds no records", str(path), "give a file with at least one")
    for place, value in found:
        if not isinstance(value, dict):
            raise InputError(f"it is {str(value)[:60]!r}", f"{path}, {place}", "write a JSON object")
        yield Record(value, f"{path}, {place}")


def _entries(content: str, path: Path) -> Iterator[tuple[str, Any]]:
    try:
        whole = json.loads(content)
    except ValueError:  # NLVR2's dev.json has an object a line
        yield from _lines(content, path)
        return
    if isinstance(whole, list):
        yield from ((f"entry {number}", value) for number, value in enumerate(whole))
    elif isinstance(whole, dict) and all(isinstance(value, dict) for value in whole.values()):
        yield from ((f"entry {key}", value) for key, value in whole.items())
    else:
        yield "line 1", whole


def _lines(content: str, path: Path) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(content.splitlines(), 1):
        if line.strip():
            try:
                yield f"line {number}", json.loads(line)
            except ValueError as error:
                fix = "give a JSON list or object of records, or a JSON object a line"
                raise InputError(f"it is not JSON: {error}", f"{path}, line {number}", fix) from error


def quads(path: Path) -> list[Quad]:
    """Winoground's examples.jsonl: image_0, image_1, caption_0, caption_1, and perhaps collapsed_tag."""
    return [
        Quad(
            (one.text("image_0"), one.text("image_1")),
            (one.text("caption_0"), one.text("caption_1")),
            str(one.values.get("collapsed_tag") or ""),
            one.where,
        )
        for one in records(path)
    ]


def pairs(path: Path) -> list[Pair]:
    """A file of SugarCrepe: filename, caption, negative_caption."""
    return [
        Pair(one.text("filename", "image"), one.text("caption"), one.text("negative_caption"), one.where)
        for one in records(path)
    ]
