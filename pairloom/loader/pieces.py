"""A bounded cache of pieces of remote shards, which all processes of a machine share.

A piece is fetched once a machine, under a lock, and committed by renaming, so that trainers side by side neither fetch
it twice nor see half of it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Cache:
    """A folder of pieces, the least recently used of which go when it is full."""

    folder: Path
    limit_bytes: int

    def piece(self, key: str, fetch: Callable[[], bytes]) -> Path:
        """The file of this key. Fetched if it is not there. Raises what `fetch` raises."""
        path = self.folder / hashlib.sha256(key.encode()).hexdigest()[:32]
        if not self._touch(path):
            with self._locked(path.name):
                if not self._touch(path):  # unless another process has fetched it meanwhile
                    self._commit(path, fetch())
        return path

    def drop(self, key: str) -> None:
        (self.folder / hashlib.sha256(key.encode()).hexdigest()[:32]).unlink(missing_ok=True)

    def _touch(self, path: Path) -> bool:
        try:
            os.utime(path)
        except FileNotFoundError:
            return False
        return True

    def _commit(self, path: Path, content: bytes) -> None:
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
        temporary.write_bytes(content)
        temporary.replace(path)
        with self._locked("evict"):
            self._evict(keep=path)

    def _evict(self, keep: Path) -> None:
        """An open piece stays readable after it is gone from the folder, so nobody is disturbed."""
        files = [(file.stat(), file) for file in self._pieces()]
        total = sum(stat.st_size for stat, _ in files)
        for stat, file in sorted(files, key=lambda pair: pair[0].st_mtime_ns):
            if total <= self.limit_bytes:
                return
            if file != keep:
                file.unlink(missing_ok=True)
                total -= stat.st_size

    def _pieces(self) -> Iterator[Path]:
        return (file for file in self.folder.iterdir() if file.is_file() and not file.name.startswith("."))

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        locks = self.folder / ".locks"
        locks.mkdir(parents=True, exist_ok=True)
        with (locks / name[:2]).open("w") as file:  # some share a lock, a dead process holds none
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
