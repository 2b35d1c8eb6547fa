"""LXMERT's TSV (airsplay/lxmert, src/utils.py): a picture a line, tab-separated, no heading, arrays in base64.

img_id, img_h, img_w, objects_id <i8 [n], objects_conf <f4 [n], attrs_id <i8 [n], attrs_conf <f4 [n], num_boxes,
boxes <f4 [n, 4] in pixels of the picture, features <f4 [n, d]. Ids count without background, from 0. A file of eight
columns lacks the attributes. airsplay's extraction script writes attributes that are all 0, with confidence 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from formats.features.files import found
from formats.features.lines import Line, LineFile, encoded, numbers, records, whole_number
from formats.features.record import Bad, BrokenError, Record, Vocabularies
from formats.names import one_line

FIELDS = (
    "img_id", "img_h", "img_w", "objects_id", "objects_conf", "attrs_id", "attrs_conf", "num_boxes",
    "boxes", "features",
)  # fmt: skip
WITHOUT_ATTRIBUTES = tuple(name for name in FIELDS if not name.startswith("attrs"))
NEEDS = ("class_ids", "class_scores", "width")
STORED = "<f4"


def read(path: Path, floats: str = "<f4") -> Iterator[Record | Bad]:
    """The pictures of one file, or of all .tsv files of a folder."""
    for file in found(path, ".tsv"):
        yield from records(file, lambda line: _record(line, floats), heading="img_id")


def _record(line: Line, floats: str) -> Record:
    names = {len(FIELDS): FIELDS, len(WITHOUT_ATTRIBUTES): WITHOUT_ATTRIBUTES}.get(len(line.cells))
    if names is None:
        raise BrokenError(f"{len(line.cells)} columns, neither {len(FIELDS)} nor {len(WITHOUT_ATTRIBUTES)}")
    cells = dict(zip(names, line.cells, strict=True))
    count = whole_number(cells["num_boxes"], "num_boxes")
    ids, scores = {}, {}
    for what in ("objects", "attrs"):
        if f"{what}_id" in cells:
            ids[what] = numbers(cells[f"{what}_id"], f"{what}_id", "<i8", count, 0)
            scores[what] = numbers(cells[f"{what}_conf"], f"{what}_conf", floats, count, 0)
    return Record(
        key=line.key,
        width=whole_number(cells["img_w"], "img_w"),
        height=whole_number(cells["img_h"], "img_h"),
        boxes=numbers(cells["boxes"], "boxes", floats, count, 4),
        features=numbers(cells["features"], "features", floats, count),
        class_ids=ids["objects"],
        class_scores=scores["objects"],
        attribute_ids=ids.get("attrs"),
        attribute_scores=scores.get("attrs"),
    )


def entry(record: Record, words: Vocabularies) -> tuple[bytes, ...]:
    return cells_of(record)


def cells_of(record: Record) -> tuple[bytes, ...]:
    """The cells of a picture's line, in the order of FIELDS."""
    none = np.zeros(len(record.boxes))
    attributes = none if record.attribute_ids is None else record.attribute_ids
    sure = none if record.attribute_scores is None else record.attribute_scores
    assert record.class_ids is not None
    assert record.class_scores is not None
    return (
        one_line(record.key).encode(),
        b"%d" % (record.height or 0),
        b"%d" % (record.width or 0),
        encoded(record.class_ids, "<i8"),
        encoded(record.class_scores, "<f4"),
        encoded(attributes, "<i8"),
        encoded(sure, "<f4"),
        b"%d" % len(record.boxes),
        encoded(record.boxes, "<f4"),
        encoded(record.features, "<f4"),
    )


class Writer:
    """FOLDER/features.tsv."""

    def __init__(self, folder: Path, words: Vocabularies, state: Mapping[str, Any]) -> None:
        self._file = LineFile(folder / "features.tsv", dict(state))

    def add(self, entry: tuple[bytes, ...]) -> None:
        self._file.write(*entry)

    def flush(self) -> dict[str, Any]:
        return self._file.flush()

    def close(self) -> None:
        self._file.close()
