"""Lightning's litdata: FOLDER/chunk-0-00000.bin … and index.json, which litdata.StreamingDataset opens.

A sample is a dictionary of image (the stored file, decoded as `jpeg`, which takes PNG, too), caption (the first), facts
(JSON text: captions, langs, kinds, tags, key, url, licence, source), width, height. With features also boxes [n, 4] in
pixels and features [n, d] (numpy), and classes and scores among the facts. All samples must have as many leaves, so
that lists of any length are JSON text. A file holds the number of samples, their places (uint32), and the samples: the
size of each leaf (uint32), then the leaves (litdata 0.2, streaming/writer.py).
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from formats.exports.pairs import Caption, Pair, parts, vectors_of
from formats.exports.samples import SampleFiles, sized
from formats.exports.settings import Settings
from formats.features.record import Array

PICTURES = "needed"
FILES = "chunk-*.bin"
PLAIN = {"image": "jpeg", "caption": "str", "facts": "str", "width": "int", "height": "int"}
VECTORS = {"boxes": "numpy", "features": "numpy"}
NUMPY = {"float16": 8, "float32": 9}  # numbers that stand for types
LEAF: dict[str, Any] = {"type": None, "context": None, "children_spec": []}


def _leaves(settings: Settings) -> dict[str, str]:
    return PLAIN | (VECTORS if settings.with_features else {})


def entry(pair: Pair, settings: Settings) -> bytes:
    """The sample of a pair."""
    vectors = vectors_of(pair, settings.classes) if settings.with_features else {}
    facts: dict[str, Any] = {
        "captions": [one.text for one in pair.captions],
        "langs": [one.lang for one in pair.captions],
        "kinds": [one.kind for one in pair.captions],
        **{name: getattr(pair, name) for name in ("tags", "key", "url", "licence", "source")},
        **{name: vectors[name] for name in ("classes", "scores") if name in vectors},
    }
    leaves = [
        pair.image,
        (pair.captions[0].text if pair.captions else "").encode(),
        json.dumps(facts, ensure_ascii=False).encode(),
        struct.pack("<q", pair.width),
        struct.pack("<q", pair.height),
        *(_array(vectors[name]) for name in VECTORS if name in vectors),
    ]
    return sized(leaves, [True] * len(leaves))


def _array(values: Array) -> bytes:
    """Type, number of axes, sides (uint32), numbers."""
    head = [NUMPY[values.dtype.name], values.ndim, *values.shape]
    return np.array(head, "<u4").tobytes() + values.tobytes()


class Writer(SampleFiles):
    """FOLDER/chunk-0-00000.bin … and index.json."""

    def __init__(self, folder: Path, settings: Settings, state: Mapping[str, Any]) -> None:
        super().__init__(folder, "chunk-0-{:05d}.bin", b"", settings.shard_bytes, state)
        self._settings = settings

    def close(self) -> None:
        self.flush()
        chunks = [
            {"chunk_bytes": one.size, "chunk_size": one.samples, "dim": None, "filename": one.name}
            for one in self.files
        ]
        digest = hashlib.sha256("".join(one.digest for one in self.files).encode()).hexdigest()[:16]
        # A cache of the files is kept under this name till it changes.
        content = {"chunks": chunks, "config": self._config(), "updated_at": digest}
        (self._folder / "index.json").write_text(json.dumps(content, sort_keys=True), encoding="utf-8")

    def _config(self) -> dict[str, Any]:
        leaves = _leaves(self._settings)
        tree = {"type": "builtins.dict", "context": json.dumps(list(leaves)), "children_spec": [LEAF] * len(leaves)}
        return {
            "chunk_bytes": self._settings.shard_bytes,
            "chunk_size": None,
            "compression": None,
            "data_format": list(leaves.values()),
            "data_spec": json.dumps([1, tree]),  # as torch writes its trees, version 1
            "encryption": None,
            "item_loader": "PyTreeLoader",
        }


def read(folder: Path) -> Iterator[Pair]:
    """The pairs of all files of a folder, or of one."""
    for path in parts(folder, FILES):
        index = json.loads((path.parent / "index.json").read_text(encoding="utf-8"))
        count = len(index["config"]["data_format"])
        content = path.read_bytes()
        samples = int(np.frombuffer(content, "<u4", 1)[0])
        yield from (_pair(content, place, count) for place in np.frombuffer(content, "<u4", samples, 4).tolist())


def _pair(content: bytes, place: int, count: int) -> Pair:
    sizes = np.frombuffer(content, "<u4", count, place)
    ends = (place + 4 * count + np.cumsum(sizes)).tolist()
    leaves = [content[end - size : end] for end, size in zip(ends, sizes.tolist(), strict=True)]
    image, _, text, width, height = leaves[:5]
    facts = json.loads(text)
    said = zip(*(facts[name] for name in ("captions", "langs", "kinds")), strict=True)
    sides = [struct.unpack("<q", side)[0] for side in (width, height)]
    captions = [Caption(*one) for one in said]
    return Pair(key=facts["key"], image=image, format="", width=sides[0], height=sides[1], captions=captions)


def finish(out: Path, splits: dict[str, int], settings: Settings) -> None:
    """Nothing belongs to all splits."""
