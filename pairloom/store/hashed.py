"""SHA-256 of files: of one that lies there, and of one while it is written and sent on to the disk."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

STEP = 8 << 20  # bytes written between two rounds of hashing and syncing
PIECE = 1 << 20  # bytes read back at once


def sha256_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class HashedFile:
    """A new file for one writer of its bytes, in order; leaving the block without an error means that it is on disk.

    Two threads follow the writer: one hashes what lies in the file, one syncs it. Raises OSError as a file does; an
    error in a thread is raised at the end of the block at the latest.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b", buffering=0)
        self._sha256 = hashlib.sha256()
        self.bytes = 0
        self._asked = self._hashed = 0
        self._threads = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
        self._waiting: list[Future[None]] = []
        self.closed = False  # pyarrow asks

    def write(self, content: bytes | memoryview) -> int:
        rest = memoryview(content)
        self.bytes += len(rest)
        while rest:  # one call may write less than all of it
            rest = rest[self._file.write(rest) :]
        if self.bytes - self._asked >= STEP:
            self._follow()
        return len(content)

    def flush(self) -> None:
        """Nothing is held back."""

    def _follow(self) -> None:
        hasher, syncer = self._threads
        self._asked = self.bytes
        self._waiting += [hasher.submit(self._hash, self.bytes), syncer.submit(os.fsync, self._file.fileno())]

    def _hash(self, end: int) -> None:
        while self._hashed < end:
            piece = os.pread(self._file.fileno(), min(PIECE, end - self._hashed), self._hashed)
            if not piece:
                raise OSError(None, f"the file ends after {self._hashed} of its {end} bytes")
            self._sha256.update(piece)
            self._hashed += len(piece)

    @property
    def sha256(self) -> str:
        """Of the whole file, once the block is left."""
        return self._sha256.hexdigest()

    def __enter__(self) -> HashedFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            if error is None:
                self._follow()
                for waiting in self._waiting:
                    waiting.result()
        finally:
            for thread in self._threads:
                thread.shutdown(cancel_futures=True)
            self._file.close()
            self.closed = True
