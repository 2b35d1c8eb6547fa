"""MILVLG's npz (MILVLG/bottom-up-attention.pytorch, extract_features.py): a file a picture.

x [n, d], bbox [n, 4] in pixels, num_bbox, image_h, image_w, and `info`, a pickled dictionary. In mode `caffe` that has
objects_id, objects_conf, attrs_id, attrs_conf [n]. In mode `detectron2` objects and cls_prob, and under the name
attrs_id the probabilities of all attributes [n, a], as tensors of torch. Ids count without background. With
probabilities the class is theirs: some releases number `objects` wrongly.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from formats.features import arrays
from formats.features.files import below
from formats.features.record import Array, Bad, BrokenError, Record, Vocabularies, bad_of, matrix, vector
from formats.features.writing import Files

NEEDS = ("width",)
STORED = "<f4"
Writer = Files
NAMES = {
    "class_ids": ("objects_id", "<i8"),
    "class_scores": ("objects_conf", "<f4"),
    "attribute_ids": ("attrs_id", "<i8"),
    "attribute_scores": ("attrs_conf", "<f4"),
}


def read(path: Path, floats: str = "") -> Iterator[Record | Bad]:
    """All files below a folder, or one. floats is not needed: each array says its own."""
    for file in below(path, ".npz"):
        try:
            yield _record(arrays.read_npz(file), file)
        except arrays.DAMAGE as error:
            yield bad_of(error, file.stem, str(file))


def _record(content: Mapping[str, Array], file: Path) -> Record:
    missing = [name for name in ("x", "bbox") if name not in content]
    if missing:
        raise BrokenError(f"there is no array {missing[0]}; there are: {', '.join(sorted(content)) or 'none'}")
    info = arrays.as_mapping(content["info"], "info") if "info" in content else {}
    boxes = matrix(content["bbox"], len(content["bbox"]), 4, "bbox")
    sizes = {name: int(content[name] if name in content else info[name]) for name in ("image_w", "image_h")}
    return Record(
        key=str(info.get("image_id", file.stem)),
        width=sizes["image_w"],
        height=sizes["image_h"],
        boxes=boxes,
        features=matrix(content["x"], len(boxes), None, "x"),
        **columns(info, len(boxes)),
    )


def columns(info: Mapping[str, Any], count: int) -> dict[str, Any]:
    """Classes and attributes of the dictionary, in either mode."""
    found = {field: info[name] for field, (name, _) in NAMES.items() if name in info}
    if "objects" in info and "cls_prob" in info:
        found["class_ids"] = np.asarray(info["objects"])
        found["class_scores"] = np.asarray(info["cls_prob"])[np.arange(count), found["class_ids"]]
    probs = np.asarray(found.get("attribute_ids", ()))
    if probs.ndim == 2:
        found |= {"attribute_ids": probs.argmax(axis=1), "attribute_scores": probs.max(axis=1)}
    return {field: vector(np.asarray(values), count, field) for field, values in found.items()}


def entry(record: Record, words: Vocabularies) -> tuple[tuple[str, bytes]]:
    """(name, content) of a picture's file, as mode `caffe` writes it."""
    count = len(record.boxes)
    info: dict[str, Any] = {"image_id": record.key, "image_h": record.height, "image_w": record.width}
    info["num_boxes"] = count
    for field, (name, dtype) in NAMES.items():
        if (values := getattr(record, field)) is not None:
            info[name] = np.ascontiguousarray(values, dtype)
    content = {
        "x": np.ascontiguousarray(record.features, "<f4"),
        "bbox": np.ascontiguousarray(record.boxes, "<f4"),
        "num_bbox": count,
        "image_h": record.height,
        "image_w": record.width,
        "info": np.array(info, dtype=object),
    }
    return ((f"{record.key}.npz", arrays.npz_bytes(content)),)
