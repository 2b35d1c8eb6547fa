"""MMF's and Pythia's features (facebookresearch/mmf, tools/scripts/features): KEY.npy and KEY_info.npy a picture.

KEY.npy: features [n, d]. KEY_info.npy: a pickled dictionary bbox [n, 4] in pixels, num_boxes, objects [n], cls_prob
[n, c + 1], background first, image_width, image_height. vilbert-multi-task keeps all of it, features too, in KEY.npy.
`objects` is wrong in files of early releases, which cut a row of the scores instead of the background's column: where
there are probabilities, the class is theirs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from formats.features import arrays
from formats.features.files import below
from formats.features.record import Bad, BrokenError, Record, Vocabularies, bad_of, best_class, matrix, vector
from formats.features.writing import Files

NEEDS = ("width",)
STORED = "<f4"
Writer = Files
INFO = "_info.npy"


def read(path: Path, floats: str = "") -> Iterator[Record | Bad]:
    """All pictures below a folder, or one. floats is not needed: each array says its own."""
    for file in below(path, ".npy"):
        if file.name.endswith(INFO):
            features = file.with_name(file.name.removesuffix(INFO) + ".npy")
            if not features.exists():
                key = _key(features, path)
                yield Bad(key, str(features), "no-features", f"{file.name} is there, and no {features.name}")
            continue
        key = _key(file, path)
        try:
            yield _record(file, key)
        except arrays.DAMAGE as error:
            yield bad_of(error, key, str(file))


def _key(file: Path, path: Path) -> str:
    """The file's path in its folder, without its ending."""
    inside = file.relative_to(path) if path.is_dir() else Path(file.name)
    return inside.with_suffix("").as_posix()


def _record(file: Path, key: str) -> Record:
    content = arrays.read_npy(file.read_bytes())
    if content.dtype == object:
        info: Mapping[str, Any] = arrays.as_mapping(content, file.name)
        features = np.asarray(info["features"])
    else:
        beside = file.with_name(file.stem + INFO)
        if not beside.exists():
            raise BrokenError(f"{beside.name}, which has its boxes, is not there")
        info, features = arrays.as_mapping(arrays.read_npy(beside.read_bytes()), beside.name), content
    count = len(features)
    probs = matrix(np.asarray(info["cls_prob"]), count, None, "cls_prob") if "cls_prob" in info else None
    ids, scores = (None, None) if probs is None else best_class(probs)
    if ids is None and "objects" in info:
        ids = vector(np.asarray(info["objects"]), count, "objects")
    return Record(
        key=key,
        width=int(info["image_width"]),
        height=int(info["image_height"]),
        boxes=matrix(np.asarray(info["bbox"]), count, 4, "bbox"),
        features=matrix(features, count, None, "features"),
        class_ids=ids,
        class_scores=scores,
        probs=probs,
    )


def entry(record: Record, words: Vocabularies) -> tuple[tuple[str, bytes], ...]:
    """(name, content) of a picture's two files."""
    info: dict[str, Any] = {"image_id": record.key, "image_width": record.width, "image_height": record.height}
    info |= {"num_boxes": len(record.boxes), "bbox": np.ascontiguousarray(record.boxes, "<f4")}
    if record.class_ids is not None:
        info["objects"] = np.ascontiguousarray(record.class_ids, "<i8")
    if record.probs is not None:
        info["cls_prob"] = np.ascontiguousarray(record.probs, "<f4")
    features = arrays.npy_bytes(np.ascontiguousarray(record.features, "<f4"))
    return (f"{record.key}.npy", features), (f"{record.key}{INFO}", arrays.npy_bytes(info))
