"""ViLT's Arrow files (dandelin/ViLT, vilt/datasets), which METER and BLIP's forks read, too: NAME_SPLIT.arrow.

An Arrow IPC file with the columns image (bytes), caption (list of texts), image_id, split.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from formats.exports.pairs import Caption, Pair
from formats.exports.settings import Settings
from formats.features.lines import opened

SCHEMA = pa.schema(
    [
        pa.field("image", pa.binary()),
        pa.field("caption", pa.list_(pa.string())),
        pa.field("image_id", pa.string()),
        pa.field("split", pa.string()),
    ]
)
BATCH = 100  # pairs written at once
LENGTH = 8  # bytes that say how long a batch is
PICTURES = "needed"


def entry(pair: Pair, settings: Settings) -> dict[str, Any]:
    """The row of a pair."""
    texts = [one.text for one in pair.captions]
    return {"image": pair.image, "caption": texts, "image_id": pair.key, "split": pair.split}


class Writer:
    """FOLDER/NAME_SPLIT.arrow. Its end says where all is, so batches wait in a hidden file that can be gone on with."""

    def __init__(self, folder: Path, settings: Settings, state: Mapping[str, Any]) -> None:
        self._path = folder / f"{settings.name}_{folder.name}.arrow"
        self._parts = folder / ".batches"
        self._file = opened(self._parts, int(state.get("length", 0)))
        self._rows: list[dict[str, Any]] = []

    def add(self, entry: dict[str, Any]) -> None:
        self._rows.append(entry)
        if len(self._rows) == BATCH:
            self._write()

    def _write(self) -> None:
        if self._rows:
            content = pa.RecordBatch.from_pylist(self._rows, SCHEMA).serialize()
            self._file.write(len(content).to_bytes(LENGTH, "little"))
            self._file.write(content)
        self._rows = []

    def flush(self) -> dict[str, Any]:
        self._write()
        self._file.flush()
        os.fsync(self._file.fileno())
        return {"length": self._file.tell()}

    def close(self) -> None:
        self.flush()
        self._file.close()
        with pa.memory_map(str(self._parts)) as parts, pa.ipc.new_file(str(self._path), SCHEMA) as target:
            while length := int.from_bytes(parts.read(LENGTH), "little"):
                target.write_batch(pa.ipc.read_record_batch(parts.read_buffer(length), SCHEMA))


def read(folder: Path) -> Iterator[Pair]:
    """The pairs of a folder's files. What the layout does not hold is empty."""
    for path in sorted(folder.glob("*.arrow")):
        with pa.memory_map(str(path)) as source:
            file = pa.ipc.open_file(source)
            for number in range(file.num_record_batches):
                for row in file.get_batch(number).to_pylist():
                    texts = [Caption(text) for text in row["caption"]]
                    yield Pair(key=row["image_id"], image=row["image"], format="", width=0, height=0, captions=texts)


def finish(out: Path, splits: dict[str, int], settings: Settings) -> None:
    """Nothing belongs to all splits."""
