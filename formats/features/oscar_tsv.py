"""Oscar's and Oscar+'s features (microsoft/Oscar, oscar/datasets/oscar_tsv.py): two files with a line a picture.

features.tsv: key, number of regions, base64 of <f4 [n, d]. For captioning key and {"num_boxes", "features": base64}.
predictions.tsv (predictions_gt.tsv, labels.tsv, label.tsv): key and {"objects": [{"class", "rect", "conf"}],
"image_h", "image_w"}, or the list alone. Each has a .lineidx. The file imageid2idx.json has the line of each key.
Six numbers end each feature, which has 2,054 then: x1/W y1/H x2/W y2/H w/W h/H. No code of the authors writes them:
this is the order that others found. They are taken off, and are the boxes of a picture without labels.
For VQA, GQA and Flickr it has …_img_frcnn_feats.pt in their place: tensors [n, d + 6] by the keys of pictures.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from formats.features import arrays, objects
from formats.features.files import below
from formats.features.lines import Cell, Line, LineFile, encoded, lines, numbers, records, whole_number
from formats.features.record import Array, Bad, BrokenError, Record, Vocabularies, bad_of, matrix
from formats.names import one_line
from pairloom.errors import InputError

NEEDS = ("class_ids", "class_scores", "width")
STORED = "<f4"
LABELS = ("predictions_gt", "predictions", "labels", "label")
GEOMETRY = 6
WIDTH = 2054  # of the published files


def read(path: Path, floats: str = "<f4") -> Iterator[Record | Bad]:
    """The pictures of a features.tsv, or of all below a folder, with the labels that lie beside it, or of a .pt."""
    if path.suffix == ".pt":
        yield from _of_tensors(path)
        return
    for file in below(path, ".tsv"):
        if path.is_file() or "feature" in file.stem:
            yield from _read_file(file, floats)


def _of_tensors(path: Path) -> Iterator[Record | Bad]:
    """The pictures of a file of tensors by their keys, in its order."""
    try:
        content = arrays.read_pth(path)
    except arrays.DAMAGE as error:
        raise InputError(f"it can't be read: {error}", str(path), "take it from a copy") from error
    if not isinstance(content, Mapping):
        raise InputError("it holds no tensors by the keys of pictures", str(path), "name a …_img_frcnn_feats.pt")
    for key, values in content.items():
        try:
            features, shares = split(matrix(values, len(values), None, "features"))
            if shares is None:
                raise BrokenError("its features have no boxes at their end")
            yield Record(key=str(key), width=None, height=None, boxes=shares, features=features)
        except (BrokenError, TypeError) as error:
            yield bad_of(error, str(key), str(path))


def _read_file(file: Path, floats: str) -> Iterator[Record | Bad]:
    labels = Labels(labels_of(file))
    broken = (BrokenError, ValueError, TypeError)
    yield from records(file, lambda line: _record(line, labels.of(line.key), floats), broken)


def vocabulary(path: Path) -> Vocabularies:
    """The names of classes and attributes that occur in the labels, sorted."""
    if path.suffix == ".pt":
        return Vocabularies()
    found = (labels_of(file) for file in below(path, ".tsv") if path.is_file() or "feature" in file.stem)
    return objects.all_names((line for file in found if file for line in lines(file)), ())


def labels_of(features: Path) -> Path | None:
    """The labels beside a file of features: features.tsv has predictions.tsv, train.feature.tsv train.label.tsv."""
    for word in ("features", "feature"):
        if word in features.stem:
            named = [features.with_name(features.name.replace(word, label, 1)) for label in LABELS]
            return next((file for file in named if file.is_file()), None)
    return None


class Labels:
    """The labels of a file by key: the next line as long as both files go side by side, else by a list of places."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._next = lines(path) if path else iter(())
        self._places: dict[str, int] | None = None

    def of(self, key: str) -> Any:
        """The JSON of this picture. None where there is no file. Raises BrokenError where the file lacks the key."""
        if self._path is None:
            return None
        line = next(self._next, None) if self._places is None else None
        if line is None or line.key != key:
            line = self._found(key)
        if len(line.cells) != 2:
            raise BrokenError(f"{line.place} has {len(line.cells)} columns, not 2")
        return objects.parsed(line.cells[1])

    def _found(self, key: str) -> Line:
        assert self._path is not None
        if self._places is None:
            self._places = {line.key: line.start for line in lines(self._path)}
        if key not in self._places:
            raise BrokenError(f"{self._path.name} has no line of it")
        return next(lines(self._path, self._places[key]))


def _record(line: Line, content: Any, floats: str) -> Record:
    count: int
    cell: Cell
    if len(line.cells) == 2:
        own = objects.parsed(line.cells[1])
        count, cell = int(own["num_boxes"]), str(own["features"]).encode()
    elif len(line.cells) > 2:
        count, cell = whole_number(line.cells[1], "the number of regions"), line.cells[-1]
    else:
        raise BrokenError("one column, not 2 or 3")
    features, shares = split(numbers(cell, "features", floats, count))
    fields: dict[str, Any] = {"boxes": shares}
    width = height = None
    if content is not None:
        width, height = objects.size_of(content)
        fields = objects.seen(objects.objects_of(content))
        if len(fields["boxes"]) != count:
            raise BrokenError(f"it has {count} features and {len(fields['boxes'])} labels")
        if width is None:  # the labels' boxes are in pixels, and only the features say of how large a picture
            width, height = _size(fields["boxes"], shares)
    if fields["boxes"] is None:
        raise BrokenError("neither its features nor a file of labels have its boxes")
    return Record(key=line.key, width=width, height=height, features=features, **fields)


def split(features: Array) -> tuple[Array, Array | None]:
    """(features, boxes in shares of the picture's sides) where six numbers end each, else (features, None)."""
    shares = features[:, -GEOMETRY:].astype(np.float32)
    if features.shape[1] <= GEOMETRY or not len(features):
        return features, None
    sides = np.abs(shares[:, 2:4] - shares[:, :2] - shares[:, 4:]).max()
    if sides > 1e-2 or shares.min() < -1e-2 or shares.max() > 1 + 1e-2 or not shares.any():
        known = features.shape[1] == WIDTH
        return (features[:, :-GEOMETRY], None) if known else (features, None)
    return features[:, :-GEOMETRY], shares[:, :4]


def _size(boxes: Array, shares: Array | None) -> tuple[int, int]:
    """(width, height) of a picture in which these boxes (pixels) have these shares. Raises BrokenError if unknown."""
    if shares is None:
        raise BrokenError("the picture's size is unknown: neither image_w and image_h, nor six numbers after a feature")
    sides = []
    for axis in (0, 1):
        pixels, parts = boxes[:, [axis, axis + 2]].ravel(), shares[:, [axis, axis + 2]].ravel()
        best = int(parts.argmax())
        if parts[best] <= 0:
            raise BrokenError("the picture's size is unknown: all its boxes are empty")
        sides.append(max(1, round(float(pixels[best] / parts[best]))))
    return sides[0], sides[1]


def entry(record: Record, words: Vocabularies) -> tuple[bytes, tuple[bytes, bytes], bytes]:
    """(key, number and features, labels) of a picture."""
    sides = np.array([record.width, record.height] * 2, np.float32)
    corners = np.asarray(record.boxes, np.float32) / sides
    geometry = np.concatenate([corners, corners[:, 2:] - corners[:, :2]], axis=1)
    features = np.concatenate([np.asarray(record.features, np.float32), geometry], axis=1)
    content = {"objects": objects.written(record, words), "image_h": record.height, "image_w": record.width}
    labels = json.dumps(content, ensure_ascii=False).encode()
    return one_line(record.key).encode(), (b"%d" % len(record.boxes), encoded(features, "<f4")), labels


class Writer:
    """FOLDER/features.tsv (d + 6 numbers), predictions.tsv, their .lineidx, and imageid2idx.json."""

    def __init__(self, folder: Path, words: Vocabularies, state: Mapping[str, Any]) -> None:
        self._folder = folder
        self._parts = [
            LineFile(folder / f"{name}.tsv", dict(state), folder / f"{name}.lineidx")
            for name in ("features", "predictions")
        ]

    def add(self, entry: tuple[bytes, tuple[bytes, bytes], bytes]) -> None:
        key, features, labels = entry
        self._parts[0].write(key, *features)
        self._parts[1].write(key, labels)

    def flush(self) -> dict[str, Any]:
        return {name: length for part in self._parts for name, length in part.flush().items()}

    def close(self) -> None:
        for part in self._parts:
            part.close()
        numbered = {line.key: line.number - 1 for line in lines(self._folder / "predictions.tsv")}
        (self._folder / "imageid2idx.json").write_text(json.dumps(numbered, ensure_ascii=False), encoding="utf-8")
