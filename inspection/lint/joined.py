"""Lint, part 5: is what was joined to a training row that of its image? By a hash of each packed value."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import xxhash

from inspection.columns import Array, ids
from inspection.dataset import Dataset
from inspection.lint.problem import Findings
from inspection.lint.sampling import among, share_of
from inspection.tables import names, table_of
from pairloom.store.folder import Folder
from pairloom.table import Blob


@dataclass(frozen=True)
class Hashes:
    """XXH3 of an image's value in a column, 0 for none. Images sorted by id."""

    images: Array
    values: Array

    @classmethod
    def read(cls, folder: Folder, column: str, share: float = 1.0) -> Hashes:
        """One shard is in memory at a time. share: of the images, see `sampling`."""
        every = (table for _, table in folder.tables(["image_id", column]))
        tables = (table.filter(pa.array(among(ids(table["image_id"]), share))) for table in every)
        parts = [(ids(table["image_id"]).copy(), _hashes(table[column])) for table in tables]
        images, values = (np.concatenate(each) for each in zip(*parts, strict=True)) if parts else _nothing()
        order = np.argsort(images, kind="stable")
        return cls(images[order], values[order])

    def differ(self, images: Array, values: Array) -> Array:
        """Rows whose value is not this table's, where it has the image."""
        if not len(self.images):
            return np.zeros(0, np.int64)
        place = np.minimum(np.searchsorted(self.images, images), len(self.images) - 1)
        found: Array = np.flatnonzero((self.images[place] == images) & (self.values[place] != values))
        return found


def _nothing() -> tuple[Array, Array]:
    return np.zeros(0, "S16"), np.zeros(0, np.uint64)


def _hashes(column: pa.ChunkedArray) -> Array:
    digests = [xxhash.xxh3_64_intdigest(value.as_buffer()) if value.is_valid else 0 for value in column]
    return np.array(digests, np.uint64)


def check_joined(found: Dataset, sound: set[Path], findings: Findings) -> None:
    """Boxes, features and all else that is packed, in tables whose shards are cut anew of others."""
    for stage, folder in found.tables.items():
        if not (found.flow.recut(stage) and folder.maker and folder.table in names()):
            continue
        for name in found.flow.inputs(stage):
            source = found.tables.get(name)
            if source is not None and all(source.file(entry.name) in sound for entry in source.shards):
                for column in _common(source, folder, sound):
                    _check_column(source, folder, column, sound, findings)


def _common(source: Folder, folder: Folder, sound: set[Path]) -> list[str]:
    """The packed columns that both tables have in the same form."""
    readable = [[entry.name for entry in each.shards if each.file(entry.name) in sound] for each in (source, folder)]
    if not all(readable) or source.table not in names():
        return []
    notes = [each.metadata(shards[0]) for each, shards in zip((source, folder), readable, strict=True)]
    kinds = [
        {
            column.name: column.type.number(said)
            for column in table_of(each.table).columns
            if isinstance(column.type, Blob)
        }
        for each, said in zip((source, folder), notes, strict=True)
    ]
    return [name for name, kind in kinds[0].items() if kinds[1].get(name) == kind]


def _check_column(source: Folder, folder: Folder, column: str, sound: set[Path], findings: Findings) -> None:
    wanted = Hashes.read(source, column, share_of(source, findings))
    for entry in folder.shards:
        if folder.file(entry.name) in sound:
            table = folder.read(entry.name, ["image_id", column])
            if table[column].null_count == len(table):
                continue  # the table was not joined
            bad = wanted.differ(ids(table["image_id"]), _hashes(table[column]))
            what = f"{column} is not that of this image in {source.header.stage}"
            findings.named("joined", folder.file(entry.name), [(int(row), what) for row in bad])
