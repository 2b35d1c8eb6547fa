"""A folder for Hugging Face datasets: Parquet with decoded pictures and splits, and a card whose YAML says so.

`load_dataset(FOLDER)` opens it, streaming too, and `push_to_hub` or an upload of the folder makes a data set of the hub
with a viewer. Columns: image, captions (texts), langs, kinds, key, url, licence, source, width, height, tags. With
features also boxes [n, 4] in pixels, classes (names), scores [n] and features [n, d].
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from formats.exports.pairs import Caption, Pair, parts, vectors_of
from formats.exports.settings import Settings
from pairloom.store.names import shard_name

TEXTS = pa.list_(pa.string())
PICTURES = "taken"
FILES = "*.parquet"
PLAIN: dict[str, pa.DataType] = {
    "image": pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())]),
    "captions": TEXTS,
    "langs": TEXTS,
    "kinds": TEXTS,
    "key": pa.string(),
    "url": pa.string(),
    "licence": pa.string(),
    "source": pa.string(),
    "width": pa.int32(),
    "height": pa.int32(),
    "tags": TEXTS,
}
VECTORS: dict[str, pa.DataType] = {
    "boxes": pa.list_(pa.list_(pa.float32())),
    "classes": TEXTS,
    "scores": pa.list_(pa.float32()),
    "features": pa.list_(pa.list_(pa.float32())),
}
KNOWN = re.compile(r"cc0-1\.0|cc-by(-nc)?(-sa|-nd)?-[234]\.[05]|mit|apache-2\.0")  # the hub's words for licences


@dataclass(frozen=True)
class Entry:
    """A pair as a table of one row."""

    row: pa.RecordBatch
    size: int  # bytes of its picture and features


def entry(pair: Pair, settings: Settings) -> Entry:
    vectors = pair.regions.features.nbytes if settings.with_features and pair.regions else 0
    row = pa.RecordBatch.from_pylist([_row(pair, settings)], _schema(settings))
    return Entry(row, len(pair.image) + vectors)


class Writer:
    """FOLDER/00000.parquet …. A file ends with the pair that fills it, or with its shard."""

    def __init__(self, folder: Path, settings: Settings, state: Mapping[str, Any]) -> None:
        self._folder, self._settings = folder, settings
        self._number, self._size = int(state.get("files", 0)), 0
        self._rows: list[pa.RecordBatch] = []

    def add(self, entry: Entry) -> None:
        self._rows.append(entry.row)
        self._size += entry.size
        if self._size >= self._settings.shard_bytes:
            self._end()

    def _end(self) -> None:
        if not self._rows:
            return
        table = pa.Table.from_batches(self._rows, _schema(self._settings)).combine_chunks()
        temporary = self._folder / f".{shard_name(self._number)}.tmp"
        pq.write_table(table, temporary, row_group_size=100, compression="zstd")
        temporary.replace(self._folder / f"{shard_name(self._number)}.parquet")
        self._rows, self._size, self._number = [], 0, self._number + 1

    def flush(self) -> dict[str, Any]:
        self._end()
        return {"files": self._number}

    def close(self) -> None:
        self._end()


def _columns(settings: Settings) -> dict[str, pa.DataType]:
    return PLAIN | (VECTORS if settings.with_features else {})


def _schema(settings: Settings) -> pa.Schema:
    fields = [pa.field(name, kind) for name, kind in _columns(settings).items()]
    return pa.schema(fields, {"huggingface": json.dumps({"info": {"features": _features(settings)}})})


def _row(pair: Pair, settings: Settings) -> dict[str, Any]:
    row: dict[str, Any] = {
        "image": {"bytes": pair.image, "path": pair.file_name} if pair.image else None,
        "captions": [one.text for one in pair.captions],
        "langs": [one.lang for one in pair.captions],
        "kinds": [one.kind for one in pair.captions],
        **{name: getattr(pair, name) for name in ("key", "url", "licence", "source", "width", "height")},
        "tags": list(pair.tags),
    }
    if settings.with_features and pair.regions is not None:
        found = vectors_of(pair, settings.classes)
        row |= found | {"boxes": list(found["boxes"]), "features": list(found["features"].astype(np.float32))}
    return row


def _features(settings: Settings) -> dict[str, Any]:
    """The columns as the package datasets writes them into a file."""

    def value(kind: pa.DataType) -> Any:
        if pa.types.is_list(kind):
            return {"feature": value(kind.value_type), "_type": "List"}
        return {"dtype": {"float": "float32"}.get(str(kind), str(kind)), "_type": "Value"}

    return {name: {"_type": "Image"} if name == "image" else value(kind) for name, kind in _columns(settings).items()}


def read(folder: Path) -> Iterator[Pair]:
    """The pairs of all files of a folder, or of one."""
    for path in parts(folder, FILES):
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(64):
                for row in batch.to_pylist():
                    image = row["image"] or {"bytes": b""}
                    said = [Caption(*one) for one in zip(row["captions"], row["langs"], row["kinds"], strict=True)]
                    yield Pair(
                        key=row["key"], image=image["bytes"], format="", width=row["width"], height=row["height"],
                        captions=said,
                    )  # fmt: skip


def finish(out: Path, splits: dict[str, int], settings: Settings) -> None:
    """README.md: the card with its YAML."""
    files = {split: sorted((out / split).glob("*.parquet")) for split in splits}
    licences = {one for found in files.values() for file in found for one in _licences(file)}
    sizes = {split: sum(file.stat().st_size for file in found) for split, found in files.items()}
    head = head_of(settings.name, licences, {split: f"{split}/*.parquet" for split in splits})
    head["dataset_info"] = {
        "features": [_card(name, kind) for name, kind in _columns(settings).items()],
        "splits": [
            {"name": _named(split), "num_bytes": sizes[split], "num_examples": count} for split, count in splits.items()
        ],
        "download_size": sum(sizes.values()),
        "dataset_size": sum(sizes.values()),
    }
    text = (
        f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---\n\n# {settings.name}\n\n"
        "Pictures with their captions, written by pairloom.\n\n"
        + "".join(f"- {_named(split)}: {count:,} pictures\n" for split, count in splits.items())
        + f"\nLicences of the pictures as listed: {', '.join(sorted(licences)) or 'unknown'}.\n"
    )
    (out / "README.md").write_text(text, encoding="utf-8")


def _licences(file: Path) -> set[str]:
    return {one for one in pq.read_table(file, columns=["licence"])["licence"].unique().to_pylist() if one}


def head_of(name: str, licences: Iterable[str], files: Mapping[str, str]) -> dict[str, Any]:
    """What the YAML of a card says of any data set; files: a pattern for each split."""
    words = (re.sub(r"[ _]+", "-", one.strip().lower()) for one in licences)
    known = {word if KNOWN.fullmatch(word) else "other" for word in words}
    data_files = [{"split": _named(split), "path": path} for split, path in files.items()]
    return {
        "pretty_name": name,
        "license": sorted(known) or ["unknown"],
        "task_categories": ["image-to-text", "text-to-image"],
        "configs": [{"config_name": "default", "data_files": data_files}],
    }


def _named(split: str) -> str:
    """The hub's word for a split."""
    return {"val": "validation"}.get(split, split)


def _card(name: str, kind: pa.DataType) -> dict[str, Any]:
    """A column as the YAML of a card has it."""
    if name == "image":
        return {"name": name, "dtype": "image"}
    if pa.types.is_list(kind):
        inner = kind.value_type
        if pa.types.is_list(inner):
            return {"name": name, "list": {"list": "float32"}}
        return {"name": name, "list": {"float": "float32"}.get(str(inner), str(inner))}
    return {"name": name, "dtype": str(kind)}
