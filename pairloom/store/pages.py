"""Where the values of a plain Parquet column lie in its file, read from the page headers (Thrift compact protocol).

For columns of large values that are stored as they are: required, uncompressed, PLAIN, such as pictures and features.
Then each value is its length in four bytes and its own bytes, and can be read by position without its neighbours.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pairloom.errors import StoreError

# Fields of parquet.thrift's PageHeader that are needed here.
TYPE, SIZE, CHECKSUM, DATA_PAGE = 1, 3, 4, 5
VALUES, ENCODING = 1, 2  # of its DataPageHeader
PLAIN = 0


def values(path: Path, column: str, group: int, metadata: pq.FileMetaData) -> Iterator[tuple[int, memoryview]]:
    """(position in the file, bytes) of every value of a row group's column, in order. Page checksums are verified.

    Raises StoreError if the column is not stored plainly, or a page is damaged.
    """
    chunk = _chunk(path, column, group, metadata)
    with path.open("rb") as file:
        file.seek(chunk.data_page_offset)
        content = memoryview(file.read(chunk.total_compressed_size))
    place = 0
    while place < len(content):
        try:
            header, data = thrift_struct(content, place)
            page = content[data : data + header[SIZE]]
            found = list(_split(page, header[DATA_PAGE][VALUES]))
        except (IndexError, KeyError, ValueError) as error:
            raise _damaged(path, column, group, "a page header makes no sense") from error
        if header[TYPE] != 0 or header[DATA_PAGE][ENCODING] != PLAIN or len(page) != header[SIZE]:
            raise _damaged(path, column, group, "a page is not of plain values")
        if CHECKSUM in header and header[CHECKSUM] & 0xFFFFFFFF != zlib.crc32(page):
            raise _damaged(path, column, group, "a page's checksum is wrong")
        yield from ((chunk.data_page_offset + data + at, value) for at, value in found)
        place = data + header[SIZE]


def _chunk(path: Path, column: str, group: int, metadata: pq.FileMetaData) -> pq.ColumnChunkMetaData:
    for number in range(metadata.num_columns):
        if metadata.schema.column(number).path == column:
            chunk = metadata.row_group(group).column(number)
            plain = chunk.compression == "UNCOMPRESSED" and not chunk.has_dictionary_page
            if plain and metadata.schema.column(number).max_definition_level == 0:
                return chunk
            break
    raise _damaged(path, column, group, "it is missing, compressed, nullable or has a dictionary")


def _damaged(path: Path, column: str, group: int, what: str) -> StoreError:
    return StoreError(
        f"column {column} of row group {group} cannot be read by position: {what}",
        where=str(path),
        fix="run `pairloom verify` on the folder; it names the damaged shards and how to rebuild them",
    )


def _split(page: memoryview, count: int) -> Iterator[tuple[int, memoryview]]:
    """(position in the page, bytes) of each value. Raises ValueError unless they fill the page exactly."""
    place = 0
    for _ in range(count):
        size = int.from_bytes(page[place : place + 4], "little")
        yield place + 4, page[place + 4 : place + 4 + size]
        place += 4 + size
    if place != len(page):
        raise ValueError(place)


def thrift_struct(content: memoryview, place: int) -> tuple[dict[int, Any], int]:
    """(field number -> value, position after it) of a struct in Thrift's compact protocol."""
    fields: dict[int, Any] = {}
    number = 0
    while (head := content[place]) != 0:
        place += 1
        if head >> 4:
            number += head >> 4
        else:
            number, place = _zigzag(content, place)
        fields[number], place = _value(content, place, head & 15)
    return fields, place + 1


def _value(content: memoryview, place: int, kind: int) -> tuple[Any, int]:
    if kind in (1, 2):
        return kind == 1, place
    if kind == 3:
        return content[place], place + 1
    if kind in (4, 5, 6):
        return _zigzag(content, place)
    if kind == 7:
        return None, place + 8  # a double, none is needed
    if kind == 8:
        size, place = _varint(content, place)
        return bytes(content[place : place + size]), place + size
    if kind in (9, 10):
        return _list(content, place)
    if kind == 12:
        return thrift_struct(content, place)
    raise ValueError(kind)


def _list(content: memoryview, place: int) -> tuple[list[Any], int]:
    head, place = content[place], place + 1
    count = head >> 4
    if count == 15:
        count, place = _varint(content, place)
    items = []
    for _ in range(count):
        item, place = _value(content, place, head & 15)
        items.append(item)
    return items, place


def _varint(content: memoryview, place: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = content[place]
        number |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return number, place


def _zigzag(content: memoryview, place: int) -> tuple[int, int]:
    number, place = _varint(content, place)
    return (number >> 1) ^ -(number & 1), place
