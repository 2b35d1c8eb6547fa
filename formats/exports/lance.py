"""A Lance data set: FOLDER/NAME.lance, which lance.dataset opens, and LanceDB as a table of the database FOLDER.

Columns: image (large_binary, null without a picture), format, captions, langs, kinds, key, url, licence, source, width,
height, tags. With features also boxes, classes, scores, and features in the type that the shards have. Lance names its
files at random, so that two exports differ in names, not in rows.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from formats.exports import hf
from formats.exports.pairs import Caption, Pair, vectors_of
from formats.exports.settings import Settings

PICTURES = "taken"
BATCH = 64  # rows read at once


def _lance() -> Any:
    """The package, which says at each first file of a folder that there was none, unless it is told before."""
    os.environ.setdefault("LANCE_LOG", "error")
    import lance.fragment

    return lance


def check(settings: Settings) -> None:
    """Raises ModuleNotFoundError before any work."""
    _lance()


def entry(pair: Pair, settings: Settings) -> pa.RecordBatch:
    """A pair as a table of one row."""
    row: dict[str, Any] = {
        "image": pair.image or None,
        "format": pair.format or None,
        "captions": [one.text for one in pair.captions],
        "langs": [one.lang for one in pair.captions],
        "kinds": [one.kind for one in pair.captions],
        **{name: getattr(pair, name) for name in ("key", "url", "licence", "source", "width", "height")},
        "tags": list(pair.tags),
    }
    kinds: dict[str, pa.DataType] = hf.PLAIN | {"image": pa.large_binary(), "format": pa.string()}
    if settings.with_features:
        found = vectors_of(pair, settings.classes)
        row |= found | {name: list(found[name]) for name in ("boxes", "features")}
        for name in ("boxes", "features"):
            numbers = pa.from_numpy_dtype(found[name].dtype)
            kinds |= {name: pa.list_(pa.list_(numbers, found[name].shape[1]))}
        kinds |= {name: hf.VECTORS[name] for name in ("classes", "scores")}
    return pa.RecordBatch.from_pylist([row], pa.schema(kinds))


class Writer:
    """FOLDER/NAME.lance, a fragment for so many bytes or a shard. It is a data set once all are written."""

    def __init__(self, folder: Path, settings: Settings, state: Mapping[str, Any]) -> None:
        self._path, self._most = folder / f"{settings.name}.lance", settings.shard_bytes
        self._fragments: list[dict[str, Any]] = list(state.get("fragments", ()))
        self._schema = pa.ipc.read_schema(pa.py_buffer(bytes.fromhex(state["schema"]))) if state.get("schema") else None
        self._rows: list[pa.RecordBatch] = []
        self._size = 0
        kept = {file["path"] for one in self._fragments for file in one["files"]}
        for left in self._path.glob("data/*"):
            if left.name not in kept:  # of a run that was killed
                left.unlink()

    def add(self, entry: pa.RecordBatch) -> None:
        self._rows.append(entry)
        self._size += entry.nbytes
        if self._size >= self._most:
            self._end()

    def _end(self) -> None:
        if self._rows:
            table = pa.Table.from_batches(self._rows)
            self._schema = table.schema
            written = _lance().fragment.write_fragments(table, str(self._path), schema=table.schema)
            self._fragments += [one.to_json() for one in written]
        self._rows, self._size = [], 0

    def flush(self) -> dict[str, Any]:
        self._end()
        schema = self._schema.serialize().to_pybytes().hex() if self._schema is not None else ""
        return {"fragments": self._fragments, "schema": schema}

    def close(self) -> None:
        self._end()
        lance = _lance()
        fragments = [lance.fragment.FragmentMetadata.from_json(json.dumps(one)) for one in self._fragments]
        operation = lance.LanceOperation.Overwrite(self._schema, fragments)
        lance.LanceDataset.commit(str(self._path), operation)


def read(folder: Path) -> Iterator[Pair]:
    """The pairs of a folder's data set."""
    columns = ["image", "captions", "langs", "kinds", "key", "width", "height"]
    for path in folder.glob("*.lance"):
        for batch in _lance().dataset(str(path)).to_batches(columns=columns, batch_size=BATCH):
            for row in batch.to_pylist():
                said = zip(row["captions"], row["langs"], row["kinds"], strict=True)
                yield Pair(
                    key=row["key"],
                    image=row["image"] or b"",
                    format="",
                    width=row["width"],
                    height=row["height"],
                    captions=[Caption(*one) for one in said],
                )


def finish(out: Path, splits: dict[str, int], settings: Settings) -> None:
    """Nothing belongs to all splits."""
