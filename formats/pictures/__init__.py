"""Pictures in a source: files, members of tars, rows of Parquet and Arrow files, read by their locators."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from formats.locators import CONTAINERS, Locator
from formats.pictures.columns import Columns
from formats.pictures.errors import SourceError
from formats.pictures.mds import Mds
from formats.pictures.roots import File, Local, Remote, Root, open_root, refuse_outside
from formats.pictures.tar import Tar

__all__ = ["File", "Found", "Local", "Remote", "Root", "SourceError", "Sources", "open_root"]

OPEN = 4  # containers that a process holds open
MOST_KNOWN = 10_000  # names of containers in memory
AT_ONCE = 16  # requests at a time to a remote source
T = TypeVar("T")
Found = bytes | Exception  # what a place gave: a SourceError, or what nobody expected


class Container(Protocol):
    """A file that holds pictures."""

    def place(self, name: str) -> Any:
        """Where it lies, comparable with the others' places. Raises SourceError."""

    def read(self, place: Any) -> bytes: ...

    def close(self) -> None: ...


@dataclass
class Sources:
    """Reads pictures by their locators. Not for two threads at once.

    folders: path or address by the source's name. kept: a folder for indexes of tars, which are made once.
    """

    folders: Mapping[str, str]
    kept: Path | None = None
    max_bytes: int = 64 << 20  # of one picture
    _roots: dict[str, Root] = field(default_factory=dict)
    _folders: dict[tuple[str, str], bool] = field(default_factory=dict)  # what is named like a container
    _open: OrderedDict[tuple[str, str], Container] = field(default_factory=OrderedDict)

    def read(self, locators: Sequence[Locator]) -> Iterator[tuple[int, Found]]:
        """(position of its locator, what it gave), file by file in their first order, each read forward."""
        files: dict[tuple[str, str], list[tuple[int, str]]] = {}
        for number, locator in enumerate(locators):
            try:
                path, inner = self._split(locator)
            except SourceError as error:
                yield number, error
            else:
                files.setdefault((locator.source, path if inner else ""), []).append((number, inner or path))
        for (source, path), asked in files.items():
            if path:
                yield from self._members(source, path, asked)
            else:
                yield from self._files(source, asked)

    def size(self, locator: Locator) -> int | SourceError | None:
        """Bytes of a picture without reading it. None if only reading tells, or what is wrong with the place."""
        try:
            path, inner = self._split(locator)
            if inner:
                size: int | None = getattr(self._container(locator.source, path).place(inner), "size", None)
                return size
            file = self.root(locator.source).open(path)
        except SourceError as error:
            return error
        try:
            return file.size
        finally:
            file.close()

    def close(self) -> None:
        while self._open:
            self._open.popitem()[1].close()

    def root(self, source: str) -> Root:
        if source not in self._roots:
            self._roots[source] = open_root(self.folders[source])
        return self._roots[source]

    def _split(self, locator: Locator) -> tuple[str, str]:
        """(path of the file, place in it). The first part that is named like a container is one, unless a folder."""
        parts = locator.path.split("/")
        for number, part in enumerate(parts[:-1], 1):
            path = "/".join(parts[:number])
            if part.lower().endswith(CONTAINERS) and not self._is_folder(locator.source, path):
                return refuse_outside(path), "/".join(parts[number:])
        return refuse_outside(locator.path), ""

    def _is_folder(self, source: str, path: str) -> bool:
        """Asked once for each path: a bucket is asked over the network."""
        key = (source, refuse_outside(path))
        if key not in self._folders:
            if len(self._folders) >= MOST_KNOWN:
                self._folders.clear()
            self._folders[key] = self.root(source).is_folder(path)
        return self._folders[key]

    def _files(self, source: str, asked: Sequence[tuple[int, str]]) -> Iterator[tuple[int, Found]]:
        root = self.root(source)
        return ordered(partial(self._file, root), asked, AT_ONCE if root.remote else 1)

    def _file(self, root: Root, path: str) -> bytes:
        file = root.open(path)
        try:
            self._refuse_large(file.size)
            return file.read(0, file.size)
        finally:
            file.close()

    def _members(self, source: str, path: str, asked: Sequence[tuple[int, str]]) -> Iterator[tuple[int, Found]]:
        places: list[tuple[int, Any]] = []
        try:
            container = self._container(source, path)
        except SourceError as error:
            yield from ((number, error) for number, _ in asked)
            return
        for number, name in asked:
            try:
                places.append((number, container.place(name)))
            except SourceError as error:
                yield number, error
        places.sort(key=lambda each: _position(each[1]))
        at_once = AT_ONCE if isinstance(container, Tar) and self.root(source).remote else 1
        yield from ordered(partial(self._member, container), places, at_once)

    def _member(self, container: Container, place: Any) -> bytes:
        self._refuse_large(getattr(place, "size", 0))
        found = container.read(place)
        self._refuse_large(len(found))
        return found

    def _refuse_large(self, size: int) -> None:
        if size > self.max_bytes:
            raise SourceError("body-limit", f"{size} bytes, {self.max_bytes} allowed")

    def _container(self, source: str, path: str) -> Container:
        key = (source, path)
        if key in self._open:
            self._open.move_to_end(key)
            return self._open[key]
        root = self.root(source)
        file = root.open(path)
        try:
            found = _opened(f"{source}:{path}", path.lower(), file, root.remote, self.kept)
        except BaseException:
            file.close()
            raise
        while len(self._open) >= OPEN:
            self._open.popitem(last=False)[1].close()
        self._open[key] = found
        return found


def _opened(name: str, path: str, file: File, remote: bool, kept: Path | None) -> Container:
    if path.endswith(".tar"):
        return Tar(name, file, remote, kept)
    if path.endswith(".tfrecord"):
        from formats.pictures.tfrecord import TFRecord  # numba takes half a second to import

        return TFRecord(path, file)
    return Mds(path, file) if path.endswith(".mds") else Columns(path, file)


def _position(place: Any) -> Any:
    return place.offset if hasattr(place, "offset") else place


def ordered(read: Callable[[T], bytes], asked: Iterable[tuple[int, T]], at_once: int) -> Iterator[tuple[int, Found]]:
    """What `read` gives for each, in order. An error is a result. at_once: how many are read ahead, in threads."""

    def one(place: T) -> Found:
        try:
            return read(place)
        except Exception as error:  # noqa: BLE001  # whatever a place does, it costs that row only
            return error

    if at_once == 1:
        yield from ((number, one(place)) for number, place in asked)
        return
    with ThreadPoolExecutor(at_once) as pool:
        waiting: list[tuple[int, Any]] = []
        for number, place in asked:
            waiting.append((number, pool.submit(one, place)))
            if len(waiting) == at_once:
                first, result = waiting.pop(0)
                yield first, result.result()
        yield from ((number, result.result()) for number, result in waiting)
