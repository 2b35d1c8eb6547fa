"""Pictures in TFRecord files of `tf.train.Example`, as img2dataset writes them, read without TensorFlow.

A record is its length (8 bytes), the length's checksum (4), the content, and its checksum (4): CRC-32C, rotated and
shifted (tensorflow, core/lib/io/record_writer.h). The content is an Example: Features {1: map of name to Feature}, and
a Feature has {1: BytesList {1: values}} where it has bytes (core/example/feature.proto).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache

import numpy as np

from formats.pictures.errors import SourceError, explained
from formats.pictures.roots import File
from pairloom.compiled import compiled
from pairloom.table import Array

LENGTH = struct.Struct("<QI")
SUM = struct.Struct("<I")
POLYNOMIAL = 0x82F63B78  # of CRC-32C, its bits in reverse
MASK = 0xA282EAD8
VARINT, EIGHT, BLOCK, FOUR = 0, 1, 2, 5  # kinds of fields of a protocol buffer


@dataclass(frozen=True)
class Record:
    """Where the content of a record lies, and which of its values is asked for."""

    offset: int
    length: int
    column: str


class TFRecord:
    """A file whose pictures are asked for as `KEY/COLUMN`: the record whose `key` is this, and its value there."""

    def __init__(self, name: str, file: File) -> None:
        self.file, self.name = file, name
        self._records: dict[bytes, tuple[int, int]] = {}
        self._fault: str | None = None
        with explained(name):
            try:
                for offset, content in _records(file):
                    for key in features(content).get(b"key", []):
                        self._records.setdefault(key, (offset, len(content)))
            except ValueError as error:
                self._fault = str(error)  # the records before it are there

    def place(self, name: str) -> Record:
        """Raises SourceError not-found, or unreadable where the file ends early or is damaged before it."""
        key, _, column = name.rpartition("/")
        found = self._records.get(key.encode("utf-8", "surrogateescape"))
        if found is None and self._fault:
            raise SourceError("unreadable", f"the file has no whole record {key!r}: {self._fault}")
        if found is None:
            raise SourceError("not-found", f"the file has no record whose key is {key!r}")
        return Record(*found, column)

    def read(self, record: Record) -> bytes:
        """The value. Raises SourceError not-found if the record has none of this name."""
        with explained(self.name):
            values = features(self.file.read(record.offset, record.length)).get(record.column.encode(), [])
        if not values:
            raise SourceError("not-found", f"the record has no bytes {record.column!r}")
        return values[0]

    def close(self) -> None:
        self.file.close()


def _records(file: File) -> Iterator[tuple[int, bytes]]:
    """(position, content) of each record. Raises ValueError where the file is damaged or ends within one."""
    place = 0
    while place < file.size:
        head = file.read(place, LENGTH.size)
        if len(head) < LENGTH.size:
            raise ValueError(f"it ends within the record at byte {place}")
        length, found = LENGTH.unpack(head)
        if found != masked_crc(head[:8]) or place + LENGTH.size + length + SUM.size > file.size:
            raise ValueError(f"the length of the record at byte {place} is damaged, or the file ends early")
        whole = file.read(place + LENGTH.size, length + SUM.size)
        content = whole[:length]
        if SUM.unpack(whole[length:])[0] != masked_crc(content):
            raise ValueError(f"the record at byte {place} is damaged")
        yield place + LENGTH.size, content
        place += LENGTH.size + length + SUM.size


def first_names(file: File) -> list[str]:
    """What the first record has bytes of. None where the file is empty or damaged."""
    with suppress(ValueError, StopIteration):
        _, content = next(_records(file))
        return [name.decode("utf-8", "replace") for name in features(content)]
    return []


def features(example: bytes) -> dict[bytes, list[bytes]]:
    """The bytes of an Example by name. Numbers are left out. Raises ValueError where it is none."""
    found: dict[bytes, list[bytes]] = {}
    for outer in _blocks(example, 1):
        for entry in _blocks(outer, 1):
            names = list(_blocks(entry, 1))
            for feature in _blocks(entry, 2):
                for values in _blocks(feature, 1):
                    found[names[-1] if names else b""] = list(_blocks(values, 1))
    return found


def _blocks(message: bytes, wanted: int) -> Iterator[bytes]:
    """The values of this number that are strings, bytes or messages."""
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        kind = tag & 7
        if kind == VARINT:
            _, place = _varint(message, place)
            continue
        length, place = _varint(message, place) if kind == BLOCK else ({EIGHT: 8, FOUR: 4}.get(kind, -1), place)
        if length < 0 or place + length > len(message):
            raise ValueError("it is no Example")
        if kind == BLOCK and tag >> 3 == wanted:
            yield message[place : place + length]
        place += length


def _varint(message: bytes, place: int) -> tuple[int, int]:
    """(value, where it ends)."""
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(message):
            break
        byte = message[place]
        value |= (byte & 0x7F) << shift
        place += 1
        if not byte & 0x80:
            return value, place
    raise ValueError("it is no Example")


def masked_crc(content: bytes) -> int:
    """The checksum as the file has it."""
    crc = int(_crc(np.frombuffer(content, np.uint8), _table()))
    return (((crc >> 15) | (crc << 17)) + MASK) & 0xFFFFFFFF


@cache
def _table() -> Array:
    """(256,) uint32: what a byte does to the checksum."""
    table: Array = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(POLYNOMIAL), table >> 1).astype(np.uint32)
    return table


@compiled
def _crc(content: Array, table: Array) -> np.uint32:
    """CRC-32C (Castagnoli)."""
    crc = np.uint32(0xFFFFFFFF)
    for byte in content:
        crc = table[(crc ^ byte) & np.uint32(0xFF)] ^ (crc >> np.uint32(8))
    return crc ^ np.uint32(0xFFFFFFFF)
