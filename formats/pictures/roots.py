"""What a source's name stands for: a folder of this machine, or an address of fsspec. Nothing outside it is opened."""

from __future__ import annotations

import functools
import mmap
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from formats.pictures.errors import SourceError, explained
from pairloom.errors import InputError
from pairloom.filesystems import file_system


class File(Protocol):
    """An open file. `read` may be called from any thread."""

    size: int
    version: str  # changes when the file does

    def read(self, start: int, length: int) -> bytes: ...

    def view(self, start: int, length: int) -> pa.Buffer:
        """The same bytes, of a local file without reading all of them at once."""

    def close(self) -> None: ...


class Root(Protocol):
    """A folder or bucket. Paths are relative to it, with `/`, and checked."""

    remote: bool  # whether each request takes a while, so that several are made at once

    def open(self, path: str) -> File:
        """Raises SourceError path-refused, not-found, unreadable."""

    def is_folder(self, path: str) -> bool: ...

    def files(self, path: str = "") -> Iterator[str]:
        """Every file below, each folder by the alphabet, without hidden ones. Raises InputError."""


def open_root(place: str) -> Root:
    """The source at a folder's path or an address."""
    return Remote(place) if "://" in place else Local(Path(place))


def refuse_outside(path: str) -> str:
    """The path again. Raises SourceError path-refused if it would leave its source or names nothing."""
    if path.startswith("/"):
        raise SourceError("path-refused", f"{path!r} is an absolute path")
    if "\0" in path:
        raise SourceError("path-refused", f"{path!r} has a zero byte")
    if any(part in ("", ".", "..") for part in path.split("/")):
        raise SourceError("path-refused", f"{path!r} has an empty part, '.' or '..'")
    return path


class LocalFile:
    """A regular file, read by position."""

    def __init__(self, path: str, name: str) -> None:
        self.name = name
        with explained(name):
            # O_NONBLOCK: to open a named pipe would wait for its writer
            self._handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        found = os.fstat(self._handle)
        if not stat.S_ISREG(found.st_mode):
            os.close(self._handle)
            raise SourceError("not-found", f"{name!r} is no file")
        self.size, self.version = found.st_size, f"{found.st_size} {found.st_mtime_ns}"
        self._mapped: pa.Buffer | None = None

    def read(self, start: int, length: int) -> bytes:
        with explained(self.name):
            found = os.pread(self._handle, length, start)
            while 0 < len(found) < length and (more := os.pread(self._handle, length - len(found), start + len(found))):
                found += more
        return found

    def view(self, start: int, length: int) -> pa.Buffer:
        if self._mapped is None:
            with explained(self.name):
                self._mapped = pa.py_buffer(mmap.mmap(self._handle, 0, access=mmap.ACCESS_READ))
        return self._mapped.slice(start, length)

    def close(self) -> None:
        os.close(self._handle)


class Local:
    """A folder of this machine."""

    remote = False

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._real = os.path.realpath(folder)
        self._inside = functools.lru_cache(maxsize=4096)(self._resolved)

    def open(self, path: str) -> LocalFile:
        refuse_outside(path)
        folder, _, name = path.rpartition("/")
        real = os.path.join(self._inside(folder), name)
        with explained(path):
            if stat.S_ISLNK(os.lstat(real).st_mode):
                real = self._resolved(path)
        return LocalFile(real, path)

    def is_folder(self, path: str) -> bool:
        return os.path.isdir(self.folder / refuse_outside(path))

    def files(self, path: str = "") -> Iterator[str]:
        if not self.folder.is_dir():
            raise InputError("there is no such folder", str(self.folder), "correct the path of the source")
        start = self.folder / path if path else self.folder
        for folder, folders, names in os.walk(start, onerror=_refuse):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            inside = os.path.relpath(folder, self.folder)
            parts = [] if inside == os.curdir else inside.split(os.sep)
            yield from ("/".join((*parts, name)) for name in sorted(names) if not name.startswith("."))

    def _resolved(self, path: str) -> str:
        """The real path. Raises SourceError path-refused if a link leads out of the source."""
        with explained(path):
            real = os.path.realpath(os.path.join(self._real, path), strict=True)
        if real != self._real and not real.startswith(self._real.rstrip(os.sep) + os.sep):
            raise SourceError("path-refused", f"{path!r} is, or lies behind, a link that leads out of the source")
        return real


def _refuse(error: OSError) -> None:
    fix = "give this user the right to read it, or move it out of the source"
    raise InputError(f"a folder cannot be opened: {error.strerror}", str(error.filename), fix) from error


class RemoteFile:
    """An object of a bucket, or a file behind another address. Each `read` is a request for a run of its bytes."""

    def __init__(self, files: Any, path: str, name: str) -> None:
        self._files, self._path, self.name = files, path, name
        with explained(name):
            facts = files.info(path)
        if facts["type"] != "file":
            raise SourceError("not-found", f"{name!r} is no file")
        self.size = int(facts["size"] or 0)
        when = next((facts[key] for key in ("ETag", "etag", "LastModified", "mtime") if facts.get(key)), "")
        self.version = f"{self.size} {when}"

    def read(self, start: int, length: int) -> bytes:
        stop = min(start + length, self.size)
        if stop <= start:
            return b""
        with explained(self.name):
            found: bytes = self._files.cat_file(self._path, start=start, end=stop)
        return found

    def view(self, start: int, length: int) -> pa.Buffer:
        return pa.py_buffer(self.read(start, length))

    def close(self) -> None:
        """Nothing is held open."""


class Remote:
    """An address of fsspec, such as s3://bucket/folder."""

    remote = True

    def __init__(self, url: str) -> None:
        self.url = url
        self._files, path = file_system(url)
        self._path = path.rstrip("/")

    def open(self, path: str) -> RemoteFile:
        return RemoteFile(self._files, self._full(refuse_outside(path)), path)

    def is_folder(self, path: str) -> bool:
        return bool(self._files.isdir(self._full(refuse_outside(path))))

    def files(self, path: str = "") -> Iterator[str]:
        start = self._full(path) if path else self._path
        if not self._files.isdir(start):
            raise InputError("there is no such folder", self.url, "correct the address of the source")
        found = (str(file)[len(self._path) :].lstrip("/") for file in self._files.find(start))
        for file in sorted(found, key=lambda name: name.split("/")):
            if not any(part.startswith(".") for part in file.split("/")):
                yield file

    def _full(self, path: str) -> str:
        return f"{self._path}/{path}"


class Stream:
    """A File as a Python file object, for tarfile and Arrow. Reads `ahead` bytes at a time where that is given."""

    def __init__(self, file: File, ahead: int = 0) -> None:
        self.file, self.ahead, self.place = file, ahead, 0
        self._start, self._piece = 0, b""
        self.closed = False
        self.mode = "rb"

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.place

    def size(self) -> int:
        return self.file.size

    def seek(self, offset: int, whence: int = 0) -> int:
        self.place = offset + (0, self.place, self.file.size)[whence]
        return self.place

    def read(self, length: int | None = -1) -> bytes:
        if length is None or length < 0:
            length = max(0, self.file.size - self.place)
        found = self._read(self.place, length)
        self.place += len(found)
        return found

    def _read(self, start: int, length: int) -> bytes:
        if length >= self.ahead:
            return self.file.read(start, length)
        inside = start - self._start
        if inside < 0 or inside + length > len(self._piece):
            self._start, self._piece, inside = start, self.file.read(start, self.ahead), 0
        return self._piece[inside : inside + length]

    def flush(self) -> None:
        """Nothing is written."""

    def close(self) -> None:
        self.closed = True
