"""Bottom-up attention's TSV (peteanderson80/bottom-up-attention, tools/generate_tsv.py): 10 to 100 regions, or 36.

A picture a line, tab-separated, arrays in base64: image_id, image_w, image_h, num_boxes, boxes <f4 [n, 4] in pixels of
the picture, features <f4 [n, d]. It holds no classes. The fork jiasenlu/vilbert_beta for ViLBERT adds a column cls_prob
<f4 [n, c + 1], background first. Rows are in the order of the proposals where no limit on their number struck, else by
score.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from formats.features.files import found
from formats.features.lines import Line, LineFile, encoded, numbers, records, whole_number
from formats.features.record import Bad, BrokenError, Record, Vocabularies, best_class
from formats.names import one_line

FIELDS = ("image_id", "image_w", "image_h", "num_boxes", "boxes", "features", "cls_prob")
NEEDS = ("width",)
STORED = "<f4"


def read(path: Path, floats: str = "<f4") -> Iterator[Record | Bad]:
    """The pictures of one file, or of all .tsv files of a folder."""
    for file in found(path, ".tsv"):
        yield from records(file, lambda line: _record(line, floats), heading="image_id")


def _record(line: Line, floats: str) -> Record:
    if len(line.cells) not in (len(FIELDS) - 1, len(FIELDS)):
        raise BrokenError(f"{len(line.cells)} columns, neither {len(FIELDS) - 1} nor {len(FIELDS)}")
    cells = dict(zip(FIELDS, line.cells, strict=False))
    count = whole_number(cells["num_boxes"], "num_boxes")
    probs = numbers(cells["cls_prob"], "cls_prob", floats, count) if "cls_prob" in cells else None
    ids, scores = (None, None) if probs is None else best_class(probs)
    return Record(
        key=line.key,
        width=whole_number(cells["image_w"], "image_w"),
        height=whole_number(cells["image_h"], "image_h"),
        boxes=numbers(cells["boxes"], "boxes", floats, count, 4),
        features=numbers(cells["features"], "features", floats, count),
        class_ids=ids,
        class_scores=scores,
        probs=probs,
    )


def entry(record: Record, words: Vocabularies) -> tuple[bytes, ...]:
    """The cells of a picture's line, in the order of FIELDS."""
    return (
        one_line(record.key).encode(),
        b"%d" % (record.width or 0),
        b"%d" % (record.height or 0),
        b"%d" % len(record.boxes),
        encoded(record.boxes, "<f4"),
        encoded(record.features, "<f4"),
        *([] if record.probs is None else [encoded(record.probs, "<f4")]),
    )


class Writer:
    """FOLDER/features.tsv, with the seventh column where probabilities are known."""

    def __init__(self, folder: Path, words: Vocabularies, state: Mapping[str, Any]) -> None:
        self._file = LineFile(folder / "features.tsv", dict(state))

    def add(self, entry: tuple[bytes, ...]) -> None:
        self._file.write(*entry)

    def flush(self) -> dict[str, Any]:
        return self._file.flush()

    def close(self) -> None:
        self._file.close()
