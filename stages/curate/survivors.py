"""The rows that pass the rules by themselves, over all shards in list order: their numbers, in files."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stages.curate.columns import Array, Column
from stages.curate.decisions import Key
from stages.curate.handover import Captions

ID = "V16"
ROW = np.dtype([("shard", "<i8"), ("key", ID), ("occurrence", "<i4"), ("excluded", "?")])


@dataclass(frozen=True)
class Survivors:
    """All of them; a row's position is its place among them."""

    names: list[str]  # of the shards
    rows: Column  # ROW
    image_ids: Column  # ID
    phashes: Column  # uint64; 0 of a pair without a picture
    pictured: Column  # bool
    captions: Captions  # those that pass the rules

    def add(self, shard: str, found: Sequence[tuple[Key, dict[str, Any], bool, list[dict[str, Any]]]]) -> None:
        """The survivors of one more shard: key, row, whether it is excluded by its bytes, captions."""
        number = len(self.names)
        self.names.append(shard)
        rows = [(number, key, occurrence, excluded) for (key, occurrence), _, excluded, _ in found]
        self.rows.add(np.array(rows, ROW))
        self.image_ids.add(np.array([row["image_id"] for _, row, _, _ in found], ID))
        phashes = [row["phash"] for _, row, _, _ in found]
        self.phashes.add(np.array([phash or 0 for phash in phashes], np.uint64))
        self.pictured.add(np.array([phash is not None for phash in phashes], bool))
        for *_, captions in found:
            self.captions.add(captions)

    def shard(self, here: int) -> int:
        return int(self.rows.array()[here]["shard"])

    def name(self, here: int) -> str:
        return self.names[self.shard(here)]

    def key(self, here: int) -> Key:
        row = self.rows.array()[here]
        return bytes(row["key"]), int(row["occurrence"])

    def image_id(self, here: int) -> bytes:
        return bytes(self.image_ids.array()[here])

    def excluded(self) -> Array:
        return np.array(self.rows.array()["excluded"])


@contextmanager
def survivors(folder: Path) -> Iterator[Survivors]:
    """None yet; their files lie below the folder while the block lasts."""
    with tempfile.TemporaryDirectory(dir=folder) as room:
        columns = {"rows": ROW, "image_ids": ID, "phashes": np.uint64, "pictured": np.bool_}
        files = {name: Column(Path(room) / name, kind) for name, kind in columns.items()}
        captions = Captions(Path(room))
        try:
            yield Survivors([], **files, captions=captions)
        finally:
            captions.close()
            for file in files.values():
                file.close()
