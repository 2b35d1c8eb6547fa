"""A data set that a reader of formats/datasets works on: its files, where its pictures lie, and what else was asked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from io import BufferedReader, RawIOBase, TextIOWrapper
from pathlib import Path
from typing import Any, TextIO

from formats import locators
from formats.datasets.truth import Truths
from formats.lists.columns import ListColumns
from formats.lists.urls import Pair, text
from formats.pictures import Root, open_root
from formats.pictures.errors import SourceError
from formats.pictures.roots import File
from pairloom.errors import InputError

READ_BYTES = 1 << 20  # at a time


@dataclass
class Data:
    """What was named, and the source of its pictures."""

    place: str  # the folder or file that was named
    source: str  # name of the pictures' source
    pictures: Root
    columns: ListColumns = field(default_factory=ListColumns)
    truths: Truths | None = None  # where boxes and names go that are known of the pictures
    kept: Path | None = None  # for indexes of tars

    @cached_property
    def file(self) -> str | None:
        """The name of the file that was named. None if it was a folder."""
        parent, _, name = self.place.rstrip("/").rpartition("/")
        if "://" in self.place:
            return name if "." in name and not open_root(parent).is_folder(name) else None
        return name if Path(self.place).is_file() else None

    @cached_property
    def root(self) -> Root:
        """The folder that was named, or that of the file."""
        if self.file is None:
            return open_root(self.place)
        if "://" in self.place:
            return open_root(self.place.rstrip("/").rpartition("/")[0])
        return open_root(str(Path(self.place).parent))

    @cached_property
    def files(self) -> tuple[str, ...]:
        """The files of the data set, by the alphabet: the one that was named, or all of the folder."""
        return (self.file,) if self.file else tuple(self.root.files())

    @cached_property
    def listed(self) -> frozenset[str]:
        return frozenset(self.files)

    @cached_property
    def in_pictures(self) -> frozenset[str] | None:
        """The files of the pictures' source. None where to list them would take long (remote)."""
        return None if self.pictures.remote else frozenset(self.pictures.files())

    @cached_property
    def by_name(self) -> dict[str, str]:
        """The path of each picture whose name no other has."""
        paths: dict[str, str] = {}
        doubled = set[str]()
        for path in self.in_pictures or ():
            name = path.rpartition("/")[2]
            if paths.setdefault(name, path) != path:
                doubled.add(name)
        return {name: path for name, path in paths.items() if name not in doubled}

    def named(self, *endings: str) -> list[str]:
        """The files whose names end so, in lower case."""
        return [file for file in self.files if file.lower().endswith(endings)]

    def locator(self, *parts: str) -> str:
        return locators.of(self.source, *parts)

    def where(self, file: str) -> str:
        """A file of the data set, for messages."""
        return self.place if self.file else f"{self.place.rstrip('/')}/{file}"

    @contextmanager
    def opened(self, file: str) -> Iterator[File]:
        """Raises InputError where it cannot be read."""
        try:
            found = self.root.open(file)
        except SourceError as error:
            raise InputError(error.detail, self.where(file), "repair the data set, or name another") from error
        try:
            yield found
        finally:
            found.close()

    @contextmanager
    def text(self, file: str, newline: str | None = None) -> Iterator[TextIO]:
        """The text of a file, UTF-8 with a mark or without. Bytes that are none become surrogates."""
        with self.opened(file) as raw, BufferedReader(_Raw(raw), READ_BYTES) as buffered:
            yield TextIOWrapper(buffered, "utf-8-sig", "surrogateescape", newline)

    def head(self, file: str, length: int = 65_536) -> str:
        """The beginning of a file as text, for a look at what it is."""
        with self.opened(file) as found:
            return found.read(0, length).decode("utf-8", "replace").lstrip("\ufeff")

    def read_text(self, file: str) -> str:
        """A small file as text. Bytes that are no UTF-8 become surrogates (PEP 383)."""
        with self.opened(file) as found:
            return found.read(0, found.size).decode("utf-8-sig", "surrogateescape")


class _Raw(RawIOBase):
    """A File as Python reads one."""

    def __init__(self, file: File) -> None:
        self._file, self._place = file, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        found = self._file.read(self._place, len(buffer))
        buffer[: len(found)] = found
        self._place += len(found)
        return len(found)


def pair(
    url: str,
    captions: Iterable[Any],
    extra: Mapping[str, Any] | None = None,
    *,
    source: str | None = None,
    licence: Any = None,
    lang: str | None = None,
    kind: str | None = None,
) -> Pair:
    """A row of table `urls`. captions: texts, of which null and the empty one are none, or (text, lang)."""
    texts = (each if isinstance(each, tuple) else (each, lang) for each in captions)
    return Pair(
        url=url,
        captions=[
            {"text": said, "lang": spoken, "kind": kind} for each, spoken in texts if (said := text(each)) is not None
        ],
        licence=text(licence),
        source=source,
        checksum=None,
        extra={name: said for name, value in (extra or {}).items() if (said := text(value)) is not None},
    )
