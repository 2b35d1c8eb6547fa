"""Checksums of a Parquet file's footer and column chunks, by which a reader trusts them before a decoder sees them."""

from __future__ import annotations

from collections.abc import Collection
from typing import BinaryIO

import pyarrow.parquet as pq
import xxhash


def footer_sum(file: BinaryIO) -> str:
    """XXH3 of what a Parquet reader looks at first: the footer, its length and the magic bytes at the end."""
    size = file.seek(0, 2)
    file.seek(max(size - 8, 0))
    length = int.from_bytes(file.read()[:4], "little") + 8
    file.seek(max(size - length, 0))
    return xxhash.xxh3_64_hexdigest(file.read())


def chunk_span(chunk: pq.ColumnChunkMetaData) -> tuple[int, int]:
    """(position, bytes) of a column chunk, page headers included."""
    start = chunk.dictionary_page_offset if chunk.has_dictionary_page else chunk.data_page_offset
    return start, chunk.total_compressed_size


def chunk_sums(file: BinaryIO, metadata: pq.FileMetaData, without: Collection[str]) -> list[dict[str, str]]:
    """For each row group, Parquet's path of each column but those without -> XXH3 of its chunk."""
    sums = []
    for group in range(metadata.num_row_groups):
        row_group = metadata.row_group(group)
        chunks = {(c := row_group.column(number)).path_in_schema: c for number in range(row_group.num_columns)}
        light = {path: chunk_span(chunk) for path, chunk in chunks.items() if path not in without}
        sums.append({path: _span_sum(file, *span) for path, span in light.items()})
    return sums


def _span_sum(file: BinaryIO, start: int, size: int) -> str:
    file.seek(start)
    return xxhash.xxh3_64_hexdigest(file.read(size))
