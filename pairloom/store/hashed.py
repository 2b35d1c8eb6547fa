"""SHA-256 of files: of one that lies there, and of one while it is written and sent on to the disk."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

STEP = 8 << 20  # bytes written between two rounds of hashing and syncing
MOST = 8  # rounds that may wait: what is to be hashed stays in memory


def sha256_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class HashedFile:
    """A new file for one writer of its bytes, in order. Leaving the block without an error means that it is on disk.

    Two threads follow the writer: one hashes what was written, one syncs the file. Raises OSError as a file does. An
    error in a thread is raised at the end of the block at the latest.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b", buffering=0)
        self._sha256 = hashlib.sha256()
        self.bytes = 0
        self._asked = 0
        self._written: list[bytes] = []  # and not hashed yet
        self._threads = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
        self._waiting: list[Future[None]] = []
        self.closed = False  # pyarrow asks

    def write(self, content: bytes | memoryview) -> int:
        self._written.append(bytes(content))  # pyarrow's are bytes, of which this makes no copy
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
        written, self._written, self._asked = self._written, [], self.bytes
        self._waiting += [hasher.submit(self._hash, written), syncer.submit(os.fsync, self._file.fileno())]
        while len(self._waiting) > 2 * MOST:
            self._waiting.pop(0).result()

    def _hash(self, written: list[bytes]) -> None:
        for piece in written:
            self._sha256.update(piece)

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
