"""A file of records that only grows and survives a crash: a head (magic, key, lengths, CRC), JSON, and bytes.

Written without fsync: after a crash the first record that is cut off or damaged ends the file.
"""

from __future__ import annotations

import errno
import json
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from pairloom.errors import StoreError

HEAD = struct.Struct("<4s16sIII")  # magic, key, bytes of JSON, further bytes, CRC-32 of both
MAGIC = b"plr1"

Place = tuple[int, int, int]  # where a record's JSON starts, bytes of it, further bytes


class Follower:
    """Counts the records that somebody else appends to a file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._position, self.count = file, 0, 0

    def look(self) -> int:
        """How many there are by now whose head is whole. Their content is not read."""
        handle, end = self._file.fileno(), os.fstat(self._file.fileno()).st_size
        while self._position + HEAD.size <= end:
            _, _, text, more, _ = HEAD.unpack(os.pread(handle, HEAD.size, self._position))
            self._position += HEAD.size + text + more
            self.count += 1
        return self.count


class Records:
    """One file, opened for reading and writing without a buffer. Not for two threads at once."""

    def __init__(self, file: BinaryIO, where: str) -> None:
        """where: the folder, for messages. What is not a whole record is cut off."""
        self._file, self._where = file, where
        self.found = list(self._scan())  # key and place of each record that was there
        self.size = sum(self.found[-1][1]) if self.found else 0
        os.ftruncate(file.fileno(), self.size)

    def close(self) -> None:
        self._file.close()

    def append(self, key: bytes, facts: Mapping[str, Any], content: bytes) -> Place:
        """Raises StoreError if the disk is full."""
        text = json.dumps(facts, ensure_ascii=False).encode("utf-8", "surrogatepass")
        record = HEAD.pack(MAGIC, key, len(text), len(content), zlib.crc32(content, zlib.crc32(text))) + text + content
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
        place = (self.size + HEAD.size, len(text), len(content))
        self.size += len(record)
        return place

    def read(self, place: Place) -> tuple[dict[str, Any], bytes]:
        """The JSON and the bytes of a record."""
        start, text, content = place
        file = self._file.fileno()
        facts: dict[str, Any] = json.loads(os.pread(file, text, start).decode("utf-8", "surrogatepass"))
        return facts, os.pread(file, content, start + text)

    def _scan(self) -> Iterator[tuple[bytes, Place]]:
        handle, position = self._file.fileno(), 0
        while len(head := os.pread(handle, HEAD.size, position)) == HEAD.size:
            magic, key, text, more, check = HEAD.unpack(head)
            content = os.pread(handle, text + more, position + HEAD.size)
            if magic != MAGIC or len(content) < text + more or zlib.crc32(content) != check:
                return
            yield key, (position + HEAD.size, text, more)
            position += HEAD.size + text + more
