"""What is finished of a shard, row by row in one file, so that a killed run does not ask the web again.

A record is a head (magic, key, lengths, CRC), the outcome as JSON, and the stored picture. Records are appended in the
order in which rows finish, without fsync: after a crash the first record that is cut off or damaged ends the file, and
its row is fetched again. The executor deletes the file when the shard itself is on disk.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import struct
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pairloom.errors import StoreError

HEAD = struct.Struct("<4s16sIII")  # magic, key, bytes of JSON, bytes of picture, CRC-32 of both
MAGIC = b"plr1"
FILE = "rows.spool"

Outcome = Mapping[str, Any]  # what decoder.py answers, or {"reason", "detail", "attempts"}


def key_of(url: str, checksum: str | None) -> bytes:
    """What a row's outcome depends on; rows of a shard that agree in it are fetched once."""
    return hashlib.blake2b(json.dumps([url, checksum]).encode(), digest_size=16).digest()


class Spool:
    """The outcomes of one shard's rows so far; a context manager. Not for two threads at once."""

    def __init__(self, folder: Path | None) -> None:
        """Opens what an interrupted run left in `folder`; None: a file that nobody comes back to."""
        if folder is None:
            self._file: Any = tempfile.TemporaryFile(prefix="pairloom-", buffering=0)  # noqa: SIM115  # closed in __exit__
        else:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = (folder / FILE).open("a+b", buffering=0)
        self._where = str(folder or tempfile.gettempdir())
        self._found: dict[bytes, tuple[int, int, int]] = {}  # key -> where its JSON starts, bytes of both
        self._end = 0
        self._scan()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()

    def __contains__(self, key: bytes) -> bool:
        return key in self._found

    def stored(self, key: bytes) -> bool:
        """Whether a row that is here has a picture."""
        return self._found[key][2] > 0

    def add(self, key: bytes, outcome: Outcome, picture: bytes = b"") -> None:
        """Raises StoreError if the disk is full."""
        text = json.dumps(outcome, ensure_ascii=False).encode("utf-8", "surrogatepass")
        record = HEAD.pack(MAGIC, key, len(text), len(picture), zlib.crc32(picture, zlib.crc32(text))) + text + picture
        try:
            written = os.write(self._file.fileno(), record)
            if written < len(record):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise StoreError(
                f"finished rows cannot be noted: {error.strerror}",
                self._where,
                "free some space and run the same command again; finished rows and shards are kept",
            ) from error
        self._found[key] = (self._end + HEAD.size, len(text), len(picture))
        self._end += len(record)

    def get(self, key: bytes) -> tuple[dict[str, Any], bytes]:
        """The outcome of a row that is in the spool, and its picture (empty if it has none)."""
        start, text, picture = self._found[key]
        file = self._file.fileno()
        outcome: dict[str, Any] = json.loads(os.pread(file, text, start).decode("utf-8", "surrogatepass"))
        return outcome, os.pread(file, picture, start + text)

    def _scan(self) -> None:
        for key, place in self._records():
            self._found[key] = place
            self._end = place[0] + place[1] + place[2]
        os.ftruncate(self._file.fileno(), self._end)

    def _records(self) -> Iterator[tuple[bytes, tuple[int, int, int]]]:
        """Key and place of each whole record, up to the first that is not."""
        handle, position = self._file.fileno(), 0
        while len(head := os.pread(handle, HEAD.size, position)) == HEAD.size:
            magic, key, text, picture, check = HEAD.unpack(head)
            content = os.pread(handle, text + picture, position + HEAD.size)
            if magic != MAGIC or len(content) < text + picture or zlib.crc32(content) != check:
                return
            yield key, (position + HEAD.size, text, picture)
            position += HEAD.size + text + picture
