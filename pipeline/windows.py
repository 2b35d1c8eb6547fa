"""The windows of a stage that cuts shards anew: planned once, kept, and read once for all their output shards."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pairloom.errors import StoreError
from pairloom.store.folder import read_shard
from pairloom.store.kept import forget_others, kept
from pairloom.store.names import by_number
from pairloom.table import Array
from stages.contract import ReadShard, Window

Deal: TypeAlias = Callable[[ReadShard, Window], Sequence[Array]]

DEALT = "dealt"  # in a stage's folder: rows of the windows in work, a folder each
PLAN = "plan-"  # in the kept folder: a plan, by what it is of


def planned(stage: str, folder: Path, key: str, make: Callable[[], Sequence[Window]]) -> list[Window]:
    """The stage's plan of this key, from this folder if it was made before. Plans of other keys are removed.

    It costs reading something of every input shard, which a run with nothing to do need not pay.
    """
    path = folder / f"{PLAN}{stage}-{key}"

    def content() -> bytes:
        print(f"{stage}: planning the shards", file=sys.stderr, flush=True)
        return as_text(make()).encode()

    found = kept(path, content).decode()
    forget_others(path, f"{PLAN}{stage}-")
    return from_text(found)


def as_text(windows: Sequence[Window]) -> str:
    return json.dumps([asdict(window) for window in windows])


def from_text(text: str) -> list[Window]:
    return [
        Window(tuple(each["shards"]), tuple((name, rows) for name, rows in each["parts"]), each["facts"])
        for each in json.loads(text)
    ]


def clean(folder: Path) -> None:
    """Remove what killed tasks left in a stage's folder. Nobody else may be writing its table."""
    shutil.rmtree(folder / DEALT, ignore_errors=True)


def read(
    window: Window, names: Sequence[str], inputs: Mapping[str, Path], deal: Deal, folder: Path
) -> Iterator[tuple[str, list[pa.Table]]]:
    """These parts of a window with their rows of each input: of the first as dealt, of the others those images'.

    Each input shard is read once. Its rows wait in files below `folder`, in the order of the parts, so that one input
    shard and one part are in memory at a time.
    """

    def look(stage: str, name: str, columns: Sequence[str]) -> pa.Table:
        return read_shard(inputs[stage] / f"{name}.parquet", columns)

    parts = dict(zip((name for name, _ in window.parts), deal(look, window), strict=True))
    with _room(folder / DEALT) as room:
        dealt = _Dealt(room, list(inputs.values()), window.shards)
        dealt.deal([parts[name] for name in names])
        for number, name in enumerate(names):
            yield name, dealt.part(number)


@contextmanager
def _room(folder: Path) -> Iterator[Path]:
    """A new folder below this one, while the block lasts. Raises StoreError where the disk is full."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as room:
            yield Path(room)
    except OSError as error:
        raise StoreError(
            f"the rows of a window of shards could not be put aside: {error.strerror or error}",
            where=str(folder),
            fix="free some space, as much as the window's input shards take for each worker, and run it again",
        ) from error


class _Dealt:
    """The rows of a window in files: of each input shard of each table those of part 0, then those of part 1, …"""

    def __init__(self, folder: Path, inputs: Sequence[Path], shards: Sequence[str]) -> None:
        self.folder, self.inputs, self.shards = folder, inputs, shards
        self.batches: dict[tuple[int, int, int], range] = {}  # of (table, shard, part) in their file
        self.places: list[list[Array]] = [[] for _ in shards]  # of (shard, part): where its rows stand in the part

    def deal(self, wanted: Sequence[Array]) -> None:
        """wanted: of each part its rows, counted over the shards, in order."""
        start = 0
        for shard, name in enumerate(self.shards):
            pairs = read_shard(self.inputs[0] / f"{name}.parquet")
            stop = start + pairs.num_rows
            self.places[shard] = [np.flatnonzero((rows >= start) & (rows < stop)) for rows in wanted]
            rows = [part[places] - start for part, places in zip(wanted, self.places[shard], strict=True)]
            ids = [pairs["image_id"].take(part) for part in rows]
            self._write(0, shard, pairs, rows)
            del pairs
            for table, folder in enumerate(self.inputs[1:], start=1):
                other = read_shard(folder / f"{name}.parquet")
                self._write(table, shard, other, [_rows_of(other, images) for images in ids])
            start = stop

    def _file(self, table: int, shard: int) -> Path:
        return self.folder / f"{table}-{shard}"

    def _write(self, table: int, shard: int, content: pa.Table, parts: Sequence[Array]) -> None:
        written = 0
        with pa.ipc.new_file(str(self._file(table, shard)), content.schema) as file:
            for number, rows in enumerate(parts):
                batches = content.take(rows).to_batches()
                for batch in batches:
                    file.write_batch(batch)
                self.batches[table, shard, number] = range(written, written + len(batches))
                written += len(batches)

    def part(self, number: int) -> list[pa.Table]:
        """Of each input the rows of a part."""
        order = sorted(range(len(self.shards)), key=lambda shard: by_number(self.shards[shard]))
        first, *others = [self._read(table, order, number) for table in range(len(self.inputs))]
        places = np.concatenate([self.places[shard][number] for shard in order])
        return [first.take(np.argsort(places)), *others]

    def _read(self, table: int, shards: Sequence[int], number: int) -> pa.Table:
        found, metadata = [], None
        for shard in shards:
            file = pa.ipc.open_file(pa.memory_map(str(self._file(table, shard))))
            batches = [file.get_batch(batch) for batch in self.batches[table, shard, number]]
            found.append(pa.Table.from_batches(batches, file.schema).replace_schema_metadata(None))
            metadata = metadata or file.schema.metadata
        return pa.concat_tables(found).replace_schema_metadata(metadata)


def _rows_of(table: pa.Table, image_ids: pa.ChunkedArray) -> Array:
    """The rows of these images, in order."""
    rows: Array = np.flatnonzero(pc.is_in(table["image_id"], image_ids.combine_chunks()).to_numpy())
    return rows
