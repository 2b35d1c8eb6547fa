"""Pictures' regions for tests of layouts: any keys and counts, numbers that each layout holds exactly."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from formats import features
from formats.features.record import Bad, Record, Vocabularies

WIDTH, CLASSES, ATTRIBUTES = 8, 12, 5
WORDS = Vocabularies(
    classes=tuple(f"class {n}" for n in range(CLASSES)), attributes=tuple(f"look {n}" for n in range(ATTRIBUTES))
)
HALF = {"uniter-npz", "uniter-lmdb", "uniter-lmdb-compressed"}  # keep all numbers as float16
SIZELESS = HALF | {"grid-npy"}  # keep no size of a picture


def record(key: str, count: int, seed: int = 0) -> Record:
    """A picture with so many regions, whose classes are those of its probabilities."""
    rng = np.random.default_rng([seed, count])
    width, height = int(rng.integers(50, 900)), int(rng.integers(50, 900))
    corners = np.sort(rng.random((count, 2, 2)), axis=1).reshape(count, 4)
    probs = rng.random((count, CLASSES + 1)) + 0.01
    probs = (probs / probs.sum(axis=1, keepdims=True)).astype(np.float16).astype(np.float32)
    ids = probs[:, 1:].argmax(axis=1)
    return Record(
        key=key,
        width=width,
        height=height,
        boxes=(corners * [width, height, width, height]).astype(np.float32),
        features=rng.normal(size=(count, WIDTH)).astype(np.float16).astype(np.float32),
        class_ids=ids,
        class_scores=probs[np.arange(count), ids + 1],
        attribute_ids=rng.integers(0, ATTRIBUTES, count),
        attribute_scores=rng.random(count).astype(np.float16).astype(np.float32),
        probs=probs,
    )


def grid(key: str, height: int, width: int, seed: int = 0) -> Record:
    """A picture whose regions are the cells of a grid."""
    from formats.features.grid_npy import cells

    values = np.random.default_rng([seed, height, width]).normal(size=(height * width, WIDTH)).astype(np.float32)
    return Record(key=key, width=None, height=None, boxes=cells(height, width), features=values)


def write(layout: str, folder: Path, records: Sequence[Record]) -> Path:
    """The records in this layout. Returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    module = features.load(layout)
    writer = module.Writer(folder, WORDS, {})
    for one in records:
        writer.add(module.entry(one, WORDS))
    writer.flush()
    writer.close()
    return folder


def read(layout: str, path: Path, floats: str = "<f4") -> list[Record | Bad]:
    return list(features.load(layout).read(path, floats))


def good(layout: str, path: Path, floats: str = "<f4") -> dict[str, Record]:
    """The pictures by key. There are no bad entries."""
    found = read(layout, path, floats)
    assert not [one for one in found if isinstance(one, Bad)]
    return {one.key: one for one in found if isinstance(one, Record)}


def assert_same(layout: str, found: Record, wanted: Record) -> None:
    """What came back is what went in, as far as the layout holds it."""
    names = features.load(layout)
    stored = np.asarray(wanted.features, names.STORED)
    assert found.features.dtype == stored.dtype
    assert np.array_equal(found.features, stored)
    boxes = np.asarray(wanted.boxes, np.float64)
    if layout in SIZELESS and wanted.width and wanted.height:
        boxes = boxes / ([wanted.width, wanted.height] * 2)
    assert np.allclose(found.boxes, boxes, rtol=0, atol=5e-4 if layout in HALF else 1e-4)
    if layout not in SIZELESS:
        assert (found.width, found.height) == (wanted.width, wanted.height)
    for name in ("class_ids", "class_scores", "attribute_ids", "attribute_scores", "probs"):
        values: Any = getattr(found, name)
        if values is not None:
            assert np.array_equal(values, getattr(wanted, name)), name
    if found.class_names is not None and wanted.class_ids is not None:
        assert list(found.class_names) == [WORDS.classes[number] for number in wanted.class_ids]
