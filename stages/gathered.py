"""What workers found in the shards of a corpus (`Corpus.gathered`), read where it is put together."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from pairloom.table import Array


@dataclass(frozen=True)
class Listed:
    """Such files, whose names are in a file: they are too many to be sent to every worker."""

    path: Path

    @classmethod
    def write(cls, files: Iterable[Path], path: Path) -> Listed:
        path.write_text(json.dumps([str(file.absolute()) for file in files]), encoding="utf-8")
        return cls(path)

    def files(self) -> list[Path]:
        return [Path(name) for name in json.loads(self.path.read_text(encoding="utf-8"))]


def opened(path: Path) -> pa.Table:
    """The table of such a file, mapped into memory: only what is looked at is read."""
    return pa.ipc.open_stream(pa.memory_map(str(path))).read_all()


def fixed_bytes(column: pa.ChunkedArray) -> Array:
    """V<width> of a column of fixed-size bytes. Zero bytes at the end count, which numpy's S forgets."""
    width = column.type.byte_width
    chunks = [
        np.frombuffer(chunk.buffers()[1], np.dtype(f"V{width}"), len(chunk), chunk.offset * width)
        for chunk in column.chunks
        if len(chunk)
    ]
    return chunks[0] if len(chunks) == 1 else np.concatenate([np.empty(0, f"V{width}"), *chunks])


def lists_of(column: pa.ChunkedArray) -> tuple[Array, Array]:
    """(the items of all rows one after the other, where each row's begin and the last's end)."""
    whole = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    ends = whole.offsets.to_numpy().astype(np.int64)
    return whole.values.to_numpy()[ends[0] : ends[-1]], ends - ends[0]
