"""VinVL's detector output (microsoft/scene_graph_benchmark, tools/mini_tsv): a picture a line, key and JSON.

{"objects": [{"rect": [x1, y1, x2, y2] in pixels, "class": name, "conf", "feature": base64 of <f4 [d], and where
attributes are on "attr": [names], "attr_conf"}]}. Beside it a .lineidx: the byte at which each line starts. hw.tsv has
the pictures' sizes: key and [{"height", "width"}], or "height width". A .yaml names the files: `label` (or
`feature`), `hw`, `labelmap` (a class a line).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from formats.features import objects
from formats.features.files import found
from formats.features.lines import Cell, Line, LineFile, decoded, encoded, lines, records, text
from formats.features.record import Array, Bad, BrokenError, Record, Vocabularies
from formats.names import one_line
from pairloom.errors import InputError

NEEDS = ("class_ids", "class_scores", "width")
STORED = "<f4"
OTHERS = ("hw.tsv", "labelmap.tsv", "linelist.tsv")  # ends of the names of files that hold no detections
Sizes = dict[str, tuple[int, int]]


@dataclass(frozen=True)
class Source:
    """The files of a set of features."""

    features: list[Path]
    sizes: Sizes = field(default_factory=dict)  # key -> (width, height)


def read(path: Path, floats: str = "<f4") -> Iterator[Record | Bad]:
    """The pictures of a .tsv, of the files that a .yaml names, or of a folder of either."""
    source = open_source(path)
    for file in source.features:
        broken = (BrokenError, ValueError, TypeError)
        yield from records(file, lambda line: _record(line, source.sizes, floats), broken)


def open_source(path: Path) -> Source:
    """Raises InputError where the .yaml can't be read or names files that are not there."""
    if path.suffix in (".yaml", ".yml"):
        return _of_yaml(path)
    files = [each for each in found(path, ".tsv") if path.is_file() or not each.name.endswith(OTHERS)]
    sizes: Sizes = {}
    for file in files:
        for name in (file.with_name("hw.tsv"), file.with_suffix(".hw.tsv")):
            sizes |= read_sizes(name) if name.exists() else {}
    return Source(files, sizes)


def _of_yaml(path: Path) -> Source:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        named = {key: path.parent / str(content[key]) for key in ("feature", "label", "hw") if content.get(key)}
    except (OSError, ValueError, yaml.YAMLError, AttributeError, TypeError) as error:
        raise InputError(f"the description can't be read: {error}", str(path), "name the .tsv itself") from error
    features = named.get("feature") or named.get("label")
    missing = [str(file) for file in named.values() if not file.is_file()]
    if features is None or missing:
        what = f"{missing[0]} is not there" if missing else "it names neither `label` nor `feature`"
        raise InputError(what, str(path), "put its files beside it, or name the .tsv itself")
    return Source([features], read_sizes(named["hw"]) if "hw" in named else {})


def read_sizes(path: Path) -> Sizes:
    """key -> (width, height) of a hw.tsv. Raises InputError for a line that is none."""
    sizes: Sizes = {}
    for line in lines(path):
        try:
            cell = bytes(line.cells[1])
            if cell[:1] in (b"[", b"{"):
                content = json.loads(cell)
                content = content[0] if isinstance(content, list) else content
                sizes[line.key] = (int(content["width"]), int(content["height"]))
            else:
                height, width = cell.split()
                sizes[line.key] = (int(width), int(height))
        except (ValueError, KeyError, IndexError, TypeError) as error:
            what = f"it has no height and width: {text(line.cells[-1])[:60]!r}"
            raise InputError(what, line.place, 'write KEY, a tab, and [{"height": H, "width": W}]') from error
    return sizes


def vocabulary(path: Path) -> Vocabularies:
    """The names of classes and attributes: of labelmap.tsv beside the detections, else all that occur, sorted."""
    source = open_source(path)
    named = source.features[0].with_name("labelmap.tsv")
    classes = tuple(line.key for line in lines(named)) if named.is_file() else ()
    return objects.all_names((line for file in source.features for line in lines(file)), classes)


def _record(line: Line, sizes: Sizes, floats: str) -> Record:
    if len(line.cells) != 2:
        raise BrokenError(f"{len(line.cells)} columns, not 2")
    try:
        plain, texts = objects.without_features(line)
        return _of(line, objects.parsed(plain), texts, sizes, floats)
    except BrokenError:  # it may have backslashes or features of several lengths, which the quick way takes for damage
        return _of(line, objects.parsed(line.cells[1]), (), sizes, floats)


def _of(line: Line, content: Any, texts: Sequence[Cell], sizes: Sizes, floats: str) -> Record:
    """A picture of its JSON; texts: its features, where numbers stand for them."""
    seen = objects.objects_of(content)
    if seen and any("feature" not in each for each in seen):
        raise BrokenError("an object has no feature: these may be labels alone, see oscar-tsv")
    found = [each["feature"] for each in seen]
    if texts and found != list(range(len(texts))):
        raise BrokenError("something else than its objects has features, or two of one")
    features = _features(texts or [str(each).encode() for each in found], floats)
    width, height = sizes.get(line.key) or objects.size_of(content)
    return Record(key=line.key, width=width, height=height, features=features, **objects.seen(seen))


def _features(cells: Sequence[Cell], floats: str) -> Array:
    """(n, d) of the detections' features, in base64."""
    vectors = [decoded(cell, "feature") for cell in cells]
    if len({len(vector) for vector in vectors}) > 1:
        raise BrokenError("its features have several widths", "other-width")
    if vectors and len(vectors[0]) % np.dtype(floats).itemsize:
        raise BrokenError(f"feature has {len(vectors[0])} bytes, which are no {np.dtype(floats)}")
    return np.frombuffer(b"".join(vectors), floats).reshape(len(vectors), -1 if vectors else 0)


def entry(record: Record, words: Vocabularies) -> tuple[bytes, bytes, bytes]:
    """(key, detections, size) of a picture."""
    found = objects.written(record, words)
    for one, vector in zip(found, record.features, strict=True):
        one["feature"] = encoded(vector, "<f4").decode()
    size = json.dumps([{"height": record.height, "width": record.width}]).encode()
    return one_line(record.key).encode(), json.dumps({"objects": found}, ensure_ascii=False).encode(), size


class Writer:
    """FOLDER/predictions.tsv, hw.tsv, their .lineidx, labelmap.tsv, and predictions.yaml, which names them."""

    def __init__(self, folder: Path, words: Vocabularies, state: Mapping[str, Any]) -> None:
        self._parts = [
            LineFile(folder / f"{name}.tsv", dict(state), folder / f"{name}.lineidx") for name in ("predictions", "hw")
        ]
        description = {"label": "predictions.tsv", "feature": "predictions.tsv", "hw": "hw.tsv"}
        description |= {"labelmap": "labelmap.tsv"}
        (folder / "predictions.yaml").write_text(yaml.safe_dump(description), encoding="utf-8")
        labels = "".join(f"{one_line(name)}\n" for name in words.classes)
        (folder / "labelmap.tsv").write_text(labels, encoding="utf-8")

    def add(self, entry: tuple[bytes, bytes, bytes]) -> None:
        key, *contents = entry
        for part, content in zip(self._parts, contents, strict=True):
            part.write(key, content)

    def flush(self) -> dict[str, Any]:
        return {name: length for part in self._parts for name, length in part.flush().items()}

    def close(self) -> None:
        for part in self._parts:
            part.close()
