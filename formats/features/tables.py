"""Records as rows of the table `regions`, and rows of `regions` or of training shards as records.

The file metadata's `unknown` lists the fields of Record that the features came without. Then a class id is 0, a score
1, and boxes are in a picture of UNKNOWN_SIDE pixels a side.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from formats.features.record import Array, BrokenError, Record, Vocabularies
from pairloom import vectors
from pairloom.layout import BLOBS, FEATURE_DTYPE
from pairloom.table import metadata
from schemas.regions import REGIONS

UNKNOWN = "unknown"  # key of the metadata
UNKNOWN_SIDE = 1000
MOST_REGIONS, MOST_CELLS = 255, 2**16 - 1  # of regions with classes, which tags number in a byte, and without
ROUNDING = 1e-3  # by which a score may be beyond 0 or 1
OPTIONAL = ("class_ids", "class_scores", "attribute_ids", "attribute_scores", "probs", "width")
READ = (
    *("image_id", "width", "height", "num_regions", "boxes", "class_ids", "class_scores", "attribute_ids"),
    *("attribute_scores", "features", "prob_ids", "prob_values", "prob_background"),
)


@dataclass(frozen=True)
class Form:
    """What all records of a table have in common. The first good one says it."""

    feature_width: int
    feature_dtype: str  # <f2 or <f4
    prob_width: int  # classes of which the probability is stored
    words: Vocabularies
    unknown: tuple[str, ...]

    def metadata(self, layout: str) -> dict[str, str]:
        """Of the table's files."""
        return {
            "detector": layout,
            "checkpoint": "",
            "selection": "imported",
            "precision": "",
            "order": "published",
            "feature_width": str(self.feature_width),
            FEATURE_DTYPE: self.feature_dtype,
            "prob_width": str(self.prob_width),
            "grid_side": "0",
            "grid_dtype": self.feature_dtype,
            "classes": json.dumps(list(self.words.classes)),
            "attributes": json.dumps(list(self.words.attributes)),
            UNKNOWN: json.dumps(list(self.unknown)),
        }


def unknown_of(record: Record) -> tuple[str, ...]:
    """The optional fields that a record lacks."""
    named = {"class_ids": record.class_names, "attribute_ids": record.attribute_names}
    return tuple(name for name in OPTIONAL if getattr(record, name) is None and named.get(name) is None)


def check(record: Record, form: Form) -> None:
    """Raise BrokenError where a record can't be a row of a table of this form."""
    count, width = len(record.boxes), form.feature_width
    most = MOST_CELLS if "class_ids" in form.unknown else MOST_REGIONS
    if not 1 <= count <= most:
        raise BrokenError(f"it has {count} regions, not 1 to {most}", "no-regions" if not count else "bad-value")
    if record.features.shape[1] != width:
        raise BrokenError(f"its features have {record.features.shape[1]} numbers, others' {width}", "other-width")
    for name, values in (("features", record.features), ("boxes", record.boxes), ("probs", record.probs)):
        if values is not None and not np.isfinite(values).all():
            raise BrokenError(f"{name} has NaN or infinity", "bad-value")
    stored = "float16" if form.feature_dtype == "<f2" else "float32"
    if (problem := vectors.unfit(record.features, stored)) is not None:  # type: ignore[arg-type]
        raise BrokenError(problem, "bad-value")
    if unknown := sorted(set(unknown_of(record)) - set(form.unknown)):
        raise BrokenError(f"it lacks {', '.join(unknown)}, which others have")
    if record.probs is not None and record.probs.shape[1] != len(form.words.classes) + 1:
        raise BrokenError(f"it has {record.probs.shape[1]} probabilities a region, not {len(form.words.classes)} + 1")
    for name in ("class_scores", "attribute_scores"):
        scores = getattr(record, name)
        if scores is not None and not (scores.min() >= -ROUNDING and scores.max() <= 1 + ROUNDING):
            raise BrokenError(f"{name} reaches from {scores.min()} to {scores.max()}, not 0 to 1", "bad-value")
    _check_words("class", record.class_ids, record.class_names, form.words.classes)
    _check_words("attribute", record.attribute_ids, record.attribute_names, form.words.attributes)


def _check_words(what: str, ids: Array | None, given: Sequence[str] | None, words: Sequence[str]) -> None:
    if ids is not None and not (ids.min() >= 0 and ids.max() < max(len(words), 1)):
        said = f"its {what} ids reach from {ids.min()} to {ids.max()}, and there are {len(words)} names"
        raise BrokenError(said, "bad-value")
    if strange := sorted(set(given or ()) - {*words, ""}):
        raise BrokenError(f"the {what} {strange[0]!r} is not among the {len(words)} names", "bad-value")


def table_of(records: Sequence[Record], ids: Sequence[bytes], form: Form, layout: str) -> pa.Table:
    """Rows of `regions`. `check` has found nothing in these records."""
    columns: dict[str, list[Any]] = {column.name: [] for column in REGIONS.columns}
    for record, image_id in zip(records, ids, strict=True):
        for name, value in _row(record, form).items():
            columns[name].append(value)
        columns["image_id"].append(image_id)
    kept = {name: values for name, values in columns.items() if values or REGIONS.column(name).nullable is False}
    kept = {name: values for name, values in kept.items() if any(value is not None for value in values) or not records}
    return REGIONS.table(metadata=form.metadata(layout), **kept)


def _row(record: Record, form: Form) -> dict[str, Any]:
    count = len(record.boxes)
    width, height = record.width or UNKNOWN_SIDE, record.height or UNKNOWN_SIDE
    boxes = np.asarray(record.boxes, np.float32)
    if record.width is None:
        boxes = boxes * np.float32(UNKNOWN_SIDE)
    ids = {
        "class_ids": _numbered(record.class_ids, record.class_names, form.words.classes, count),
        "attribute_ids": _numbered(record.attribute_ids, record.attribute_names, form.words.attributes, count),
    }
    row = {"source": record.key, "width": width, "height": height, "num_regions": count, "boxes": boxes, **ids}
    row["class_scores"] = np.ones(count) if record.class_scores is None else np.clip(record.class_scores, 0, 1)
    sure = record.attribute_scores
    row["attribute_scores"] = np.zeros(count) if sure is None else np.clip(sure, 0, 1)
    row["features"] = record.features
    return row | _probabilities(record.probs, form.prob_width, count)


def _numbered(ids: Array | None, given: Sequence[str] | None, words: Sequence[str], count: int) -> Array:
    if given is not None:
        places = {word: place for place, word in reversed(list(enumerate(words)))}
        return np.array([places.get(name, 0) for name in given], np.int64)
    return np.zeros(count, np.int64) if ids is None else ids


def _probabilities(probs: Array | None, width: int, count: int) -> dict[str, Any]:
    """The `width` most probable classes of each region, best first, and its probability of none."""
    if probs is None or not width:
        none = np.zeros((count, 0))
        return {"prob_ids": none, "prob_values": none, "prob_background": None}
    order = np.argsort(-probs[:, 1:], axis=1, kind="stable")[:, :width]
    values = np.take_along_axis(probs[:, 1:], order, axis=1)
    return {"prob_ids": order, "prob_values": values, "prob_background": probs[:, 0]}


def words_of(notes: Mapping[str, str]) -> Vocabularies:
    """The names in a file's metadata."""
    classes, attributes = (tuple(json.loads(notes.get(key, "[]"))) for key in ("classes", "attributes"))
    return Vocabularies(classes=classes, attributes=attributes)


def unknown_in(notes: Mapping[str, str]) -> tuple[str, ...]:
    """Fields of Record that a table's rows don't have."""
    unknown = set(json.loads(notes.get(UNKNOWN, "[]")))
    unknown |= {"probs"} if notes.get("prob_width", "0") == "0" else set()
    unknown |= {"attribute_ids", "attribute_scores"} if notes.get("attributes", "[]") == "[]" else set()
    return tuple(name for name in OPTIONAL if name in unknown)


def records_of(table: pa.Table, keys: Sequence[str]) -> Iterator[Record]:
    """The rows of a table with the columns READ (and feature_scales, where it has them), by these keys."""
    notes = metadata(table)
    unknown, classes = unknown_in(notes), len(words_of(notes).classes)
    arrays = {name: BLOBS[name].unpack(table[name], notes) for name in READ if name in BLOBS}
    for row, (key, facts) in enumerate(
        zip(keys, table.select(["width", "height", "num_regions"]).to_pylist(), strict=True)
    ):
        count = facts["num_regions"]
        own: dict[str, Any] = {name: values[row] for name, values in arrays.items()}
        sides: dict[str, Any] = {"width": facts["width"], "height": facts["height"]}
        boxes = own["boxes"].reshape(count, 4)
        if "width" in unknown:
            boxes, sides = boxes / np.array([sides["width"], sides["height"]] * 2, np.float32), dict.fromkeys(sides)
        columns = {name: own[name] for name in OPTIONAL if name in own and name not in unknown}
        probs = None if "probs" in unknown else _spread(own, count, classes)
        features = _features(table, row, own["features"], count, notes)
        yield Record(key=key, boxes=boxes, features=features, probs=probs, **columns, **sides)


def _features(table: pa.Table, row: int, numbers: Array, count: int, notes: Mapping[str, str]) -> Array:
    scales = table["feature_scales"][row].as_py() if "feature_scales" in table.column_names else None
    return (
        vectors.unpack(numbers.tobytes(), scales, count, notes[FEATURE_DTYPE])
        if scales
        else numbers.reshape(count, numbers.size // max(count, 1))
    )


def _spread(own: Mapping[str, Array], count: int, classes: int) -> Array:
    """(N, C + 1) of the stored probabilities, background first. What is not stored shares the rest evenly."""
    width = own["prob_ids"].size // max(count, 1)
    ids = own["prob_ids"].reshape(count, width).astype(np.int64)
    values = own["prob_values"].reshape(count, width).astype(np.float32)
    background = own["prob_background"] if own["prob_background"].size else np.zeros(count, np.float32)
    rest = np.maximum(1 - background - values.sum(axis=1), 0) / max(classes - ids.shape[1], 1)
    probs = np.repeat(rest[:, None], classes + 1, axis=1).astype(np.float32)
    np.put_along_axis(probs, ids + 1, values, axis=1)
    probs[:, 0] = background
    return probs
