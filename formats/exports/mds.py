"""MosaicML's streaming (MDS, version 2): FOLDER/shard.00000.mds … and index.json, which StreamingDataset opens.

Columns, which lie in the order of their names: image (the stored file, decoded as `jpeg`: Pillow opens any format),
captions, langs, kinds, tags (JSON), key, url, licence, source (text, empty where unknown), width,
height (int32). With features also boxes [n, 4] in pixels, features [n, d] (ndarray) and classes, scores (JSON).
A file holds the number of samples, their places (uint32), its columns as JSON, and the samples
(streaming 0.7 to 0.13, base/format/mds/writer.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from formats.exports.pairs import Caption, Pair, parts, vectors_of
from formats.exports.samples import SampleFiles, sized
from formats.exports.settings import Settings
from formats.features.record import Array
from formats.pictures import mds
from formats.pictures.roots import open_root

PICTURES = "needed"
FILES = "shard.*.mds"
PLAIN = {
    "image": "jpeg",
    **dict.fromkeys(("captions", "langs", "kinds", "tags"), "json"),
    **dict.fromkeys(("key", "url", "licence", "source"), "str"),
    **dict.fromkeys(("width", "height"), "int32"),
}
VECTORS = {"boxes": "ndarray", "features": "ndarray", "classes": "json", "scores": "json"}
SIZES = {"int32": 4}  # of encodings whose values are all as long
NDARRAY = {"float16": 18, "float32": 34}  # bytes that stand for types


def _columns(settings: Settings) -> dict[str, str]:
    found = PLAIN | (VECTORS if settings.with_features else {})
    return dict(sorted(found.items()))


def _description(settings: Settings) -> dict[str, Any]:
    """What index.json says of each file, and the file itself."""
    columns = _columns(settings)
    return {
        "column_encodings": list(columns.values()),
        "column_names": list(columns),
        "column_sizes": [SIZES.get(encoding) for encoding in columns.values()],
        "compression": None,
        "format": "mds",
        "hashes": [],
        "size_limit": settings.shard_bytes,
        "version": 2,
    }


def entry(pair: Pair, settings: Settings) -> bytes:
    """The sample of a pair."""
    columns = _columns(settings)
    row: dict[str, Any] = {
        "captions": [one.text for one in pair.captions],
        "langs": [one.lang for one in pair.captions],
        "kinds": [one.kind for one in pair.captions],
        **{name: getattr(pair, name) for name in ("image", "tags", "key", "url", "licence", "source")},
        **{name: getattr(pair, name) for name in ("width", "height")},
        **(vectors_of(pair, settings.classes) if settings.with_features else {}),
    }
    values = [_encoded(row[name], encoding) for name, encoding in columns.items()]
    return sized(values, [encoding not in SIZES for encoding in columns.values()])


def _encoded(value: Any, encoding: str) -> bytes:
    match encoding:
        case "json":
            return json.dumps(value).encode()
        case "str":
            return (value or "").encode()
        case "int32":
            return np.int32(value).tobytes()
        case "ndarray":
            return _array(value)
        case _:
            content: bytes = value
            return content


def _array(values: Array) -> bytes:
    """Type, number of axes with the type of the sides (code 2: uint32), sides, numbers."""
    head = bytes([NDARRAY[values.dtype.name], (values.ndim << 2) | 2])
    return head + np.array(values.shape, "<u4").tobytes() + values.tobytes()


class Writer(SampleFiles):
    """FOLDER/shard.00000.mds … and index.json."""

    def __init__(self, folder: Path, settings: Settings, state: Mapping[str, Any]) -> None:
        self._description = _description(settings)
        head = json.dumps(self._description, sort_keys=True).encode()
        super().__init__(folder, "shard.{:05d}.mds", head, settings.shard_bytes, state)

    def close(self) -> None:
        self.flush()
        shards = [
            self._description
            | {"raw_data": {"basename": one.name, "bytes": one.size, "hashes": {}}, "samples": one.samples}
            | {"zip_data": None}
            for one in self.files
        ]
        content = json.dumps({"shards": shards, "version": 2}, sort_keys=True)
        (self._folder / "index.json").write_text(content, encoding="utf-8")


def read(folder: Path) -> Iterator[Pair]:
    """The pairs of all files of a folder, or of one, by the reader of imports."""
    for path in parts(folder, FILES):
        file = mds.Mds(path.name, open_root(str(path.parent)).open(path.name))
        try:
            yield from (_pair(file, row) for row in range(file.rows))
        finally:
            file.close()


def _pair(file: mds.Mds, row: int) -> Pair:
    said = [json.loads(file.value(row, name)) for name in ("captions", "langs", "kinds")]
    width, height = (int(np.frombuffer(file.value(row, name), "<i4")[0]) for name in ("width", "height"))
    captions = [Caption(*one) for one in zip(*said, strict=True)]
    key, image = file.value(row, "key").decode(), file.value(row, "image")
    return Pair(key=key, image=image, format="", width=width, height=height, captions=captions)


def finish(out: Path, splits: dict[str, int], settings: Settings) -> None:
    """Nothing belongs to all splits."""
