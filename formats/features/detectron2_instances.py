"""detectron2's Instances, as its users save them: KEY.pth by torch.save or KEY.pkl by pickle, a picture a file.

A file holds an Instances whose field features (roi_features, box_features) are the regions', or (instances, features),
or a dictionary of `instances` and one of these names. Airsplay's py-bottom-up-attention gives the second. Fields:
pred_boxes in pixels of the picture, scores, pred_classes, and attr_classes, attr_scores where there are attributes. Ids
count without background. image_size is height, width. Neither is detectron2 needed, nor is code of the file run.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from formats.features import arrays
from formats.features.files import below
from formats.features.record import Array, Bad, BrokenError, Record, Vocabularies, bad_of, matrix, vector
from formats.features.writing import Files

NEEDS = ("class_ids", "class_scores", "width")
STORED = "<f4"
COSTLY = True
Writer = Files
TORCH, PICKLE = (".pth", ".pt"), (".pkl", ".pickle")
FEATURES = ("features", "roi_features", "box_features")
FIELDS = {
    "class_ids": "pred_classes",
    "class_scores": "scores",
    "attribute_ids": "attr_classes",
    "attribute_scores": "attr_scores",
}


class Instances:
    """Stands for detectron2's class while a file is opened as data."""

    _image_size: tuple[int, int]
    _fields: Mapping[str, Any]


class Boxes:
    """The same of detectron2's boxes."""

    tensor: Any


class Ignored:
    """The same of masks and keypoints, which regions have no place for."""


STANDING_FOR: dict[tuple[str, str], Any] = {
    ("detectron2.structures.instances", "Instances"): Instances,
    ("detectron2.structures.boxes", "Boxes"): Boxes,
    ("detectron2.structures.masks", "BitMasks"): Ignored,
    ("detectron2.structures.masks", "PolygonMasks"): Ignored,
    ("detectron2.structures.keypoints", "Keypoints"): Ignored,
    ("torch", "Size"): tuple,
}


def read(path: Path, floats: str = "") -> Iterator[Record | Bad]:
    """All files below a folder, or one. floats is not needed: each array says its own."""
    for file in below(path, *TORCH, *PICKLE):
        try:
            yield _record(_opened(file), file.stem)
        except (*arrays.DAMAGE, AttributeError) as error:
            yield bad_of(error, file.stem, str(file))


def _opened(file: Path) -> Any:
    if file.suffix in TORCH:
        return arrays.read_pth(file, STANDING_FOR)
    return arrays.read_pickle(file.read_bytes(), STANDING_FOR)


def _record(content: Any, key: str) -> Record:
    """Raises BrokenError or KeyError where it is none of the three."""
    instances, features = _parts(content)
    fields = instances._fields
    boxes = fields["pred_boxes"]
    corners = np.asarray(boxes.tensor if isinstance(boxes, Boxes) else boxes)
    height, width = instances._image_size
    count = len(corners)
    known: dict[str, Any] = {
        field: vector(fields[name], count, name) for field, name in FIELDS.items() if name in fields
    }
    return Record(
        key=key,
        width=int(width),
        height=int(height),
        boxes=matrix(corners, count, 4, "pred_boxes").astype(np.float32),
        features=matrix(features, count, None, "features"),
        **known,
    )


def _parts(content: Any) -> tuple[Instances, Array]:
    """(instances, features) of what a file holds."""
    found: Any = content
    rest: Any = None
    if isinstance(content, list | tuple) and len(content) >= 2:
        found, rest = content[0], content[1]
    elif isinstance(content, Mapping):
        found = content["instances"]
        rest = next((content[name] for name in FEATURES if name in content), None)
    if not isinstance(found, Instances):
        raise BrokenError(f"it holds a {type(found).__name__}, not detectron2's Instances")
    if rest is None:
        rest = next((found._fields[name] for name in FEATURES if name in found._fields), None)
    if rest is None:
        raise BrokenError(f"the instances have no features, neither as a field nor beside them: {', '.join(FEATURES)}")
    return found, np.asarray(rest)


def entry(record: Record, words: Vocabularies) -> tuple[tuple[str, bytes]]:
    """(name, content) of a picture's file, an Instances with the field roi_features."""
    import torch

    made, boxes = Instances(), Boxes()
    boxes.tensor = torch.tensor(np.asarray(record.boxes, np.float32))
    fields: dict[str, Any] = {"pred_boxes": boxes}
    for field, name in FIELDS.items():
        if (values := getattr(record, field)) is not None:
            fields[name] = torch.tensor(np.asarray(values, "<i8" if field.endswith("ids") else "<f4"))
    fields["roi_features"] = torch.tensor(np.asarray(record.features, np.float32))
    made._image_size, made._fields = (record.height or 0, record.width or 0), fields
    file = io.BytesIO()
    torch.save(made, file, pickle_module=PICKLING)
    return ((f"{record.key}.pth", file.getvalue()),)


PYTHONS: Any = pickle._Pickler  # the one in Python, whose parts can be replaced


class _Pickler(PYTHONS):  # type: ignore[misc]
    """Writes detectron2's names for what stands for its classes here."""

    def save_global(self, thing: Any, name: str | None = None) -> None:
        for (module, called), kind in STANDING_FOR.items():
            if thing is kind and kind in (Instances, Boxes):
                self.write(pickle.GLOBAL + f"{module}\n{called}\n".encode())
                self.memoize(thing)
                return
        super().save_global(thing, name)


PICKLING = SimpleNamespace(Pickler=_Pickler, __name__="pickle")
