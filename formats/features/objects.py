"""Detections as VinVL and Oscar keep them in JSON: one object a region, with its class by name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from formats.features.lines import Cell, Line
from formats.features.record import Array, BrokenError, Record, Vocabularies

Objects = Sequence[Mapping[str, Any]]
FEATURE, VALUE = b'"feature"', re.compile(rb'\s*:\s*"')  # a key, and what follows it where its value is a text


def parsed(cell: Cell) -> Any:
    """A cell of JSON. Raises BrokenError."""
    try:
        return json.loads(bytes(cell))
    except (ValueError, RecursionError) as error:
        raise BrokenError(f"it is not JSON: {error}") from error


def without_features(line: Line) -> tuple[bytes, list[memoryview]]:
    """(the JSON after a line's first tab with a number in place of each text "feature", these texts).

    They are nearly all of a line. One that is taken to be as long as that before it may hold a quote, and be no base64.
    """
    raw, view, kept, texts = line.raw, memoryview(line.raw), list[memoryview | bytes](), list[memoryview]()
    done = raw.find(b"\t") + 1
    place, length = raw.find(FEATURE, done), len(raw)
    while place >= 0:
        place += len(FEATURE)
        if found := VALUE.match(raw, place):
            start = found.end()
            stop = start + length  # as long as the one before, without a look at it
            if raw[stop : stop + 1] != b'"':
                stop = raw.find(b'"', start)
                if stop < 0:
                    break
            kept += [view[done : start - 1], b"%d" % len(texts)]
            texts.append(view[start:stop])
            done = place = stop + 1
            length = stop - start
        place = raw.find(FEATURE, place)
    return b"".join([*kept, view[done:]]), texts


def objects_of(content: Any) -> Objects:
    """The detections of a cell: a list, or an object that has them under `objects`."""
    found = content.get("objects") if isinstance(content, dict) else content
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise BrokenError("there is no list of objects")
    return found


def size_of(content: Any) -> tuple[int | None, int | None]:
    """(width, height) where the cell says them."""
    if isinstance(content, Mapping) and "image_w" in content and "image_h" in content:
        return int(content["image_w"]), int(content["image_h"])
    return None, None


def seen(objects: Objects) -> dict[str, Any]:
    """Fields of a Record: boxes, and classes and attributes by name (or by number, counted with background)."""
    try:
        boxes = np.array([each["rect"] for each in objects], np.float32).reshape(len(objects), 4)
        scores = np.array([each.get("conf", 1.0) for each in objects], np.float32)
        classes = [each["class"] for each in objects]
    except (KeyError, ValueError, TypeError) as error:
        raise BrokenError(f"an object lacks rect or class, or they are of another kind: {error}") from error
    fields: dict[str, Any] = {"boxes": boxes, "class_scores": scores}
    if classes and all(isinstance(name, int) for name in classes):
        fields["class_ids"] = np.array(classes) - 1
    else:
        fields["class_names"] = [str(name) for name in classes]
    if any("attr" in each for each in objects):
        best = [_best_attribute(each) for each in objects]
        fields["attribute_names"] = [name for name, _ in best]
        fields["attribute_scores"] = np.array([score for _, score in best], np.float32)
    return fields


def _best_attribute(each: Mapping[str, Any]) -> tuple[str, float]:
    """(name, confidence) of an object's surest attribute. No name where it has none."""
    names, scores = each.get("attr") or [], each.get("attr_conf") or []
    if isinstance(names, str):
        names = [names]
    if len(names) == len(scores) == 1:
        score = float(scores[0])
        return (str(names[0]), score) if score > 0 else ("", 0.0)
    pairs = [(float(score), str(name)) for name, score in zip(names, scores, strict=False) if float(score) > 0]
    score, name = max(pairs, key=lambda pair: pair[0], default=(0.0, ""))
    return name, score


def all_names(rows: Iterable[Line], classes: tuple[str, ...]) -> Vocabularies:
    """The names that occur in these lines, sorted; classes: those that are known already."""
    found: tuple[set[str], set[str]] = (set(), set())
    for line in rows:
        try:
            fields = seen(objects_of(parsed(line.cells[-1])))
        except BrokenError:  # the reader will name it
            continue
        found[0].update(fields.get("class_names", ()))
        found[1].update(fields.get("attribute_names", ()))
    return Vocabularies(classes=classes or tuple(sorted(found[0])), attributes=tuple(sorted(found[1] - {""})))


def written(record: Record, words: Vocabularies) -> list[dict[str, Any]]:
    """The detections of a record, in its order."""
    named = names(record.class_ids, words.classes, record.class_names)
    attributes = names(record.attribute_ids, words.attributes, record.attribute_names)
    objects = []
    for row, box in enumerate(np.asarray(record.boxes, np.float32).tolist()):
        one: dict[str, Any] = {"rect": box, "bbox_id": row}
        if named is not None:
            one["class"] = named[row]
        if record.class_scores is not None:
            one["conf"] = float(record.class_scores[row])
        if attributes is not None and record.attribute_scores is not None:
            one |= {"attr": [attributes[row]], "attr_conf": [float(record.attribute_scores[row])]}
        objects.append(one)
    return objects


def names(ids: Array | None, words: Sequence[str], given: Sequence[str] | None) -> Sequence[str] | None:
    """The name of each region's class. None where it has neither a number with a name nor a name."""
    if given is not None:
        return given
    return [words[number] for number in ids.tolist()] if ids is not None and len(words) else None
