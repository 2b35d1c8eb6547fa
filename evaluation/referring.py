"""RefCOCO, RefCOCO+ and RefCOCOg as their authors publish them: `refs(unc).p` and `instances.json` of a folder.

The first is a pickle of a list of objects that are referred to, each with its sentences. The second has the boxes and
pictures, in COCO's form (github.com/lichengunc/refer, refer.py).
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.records import Record, records
from pairloom import unpickle
from pairloom.errors import ConfigError, InputError

PICKLES = (".p", ".pkl", ".pickle")
AGAIN = "fetch the file again from the authors' page"


@dataclass(frozen=True)
class Published:
    """What a pickle needs beside itself."""

    instances: Path | None = None  # None: instances.json beside it
    part: str | None = None  # of its splits: train, val, testA, testB, test

    def records(self, path: Path) -> Iterator[Record]:
        """image, text, box (x1 y1 x2 y2), width and height of each sentence. Other files have them by themselves.

        Raises InputError, with the number of the entry, for one that is not as published, and ConfigError without part.
        """
        if path.suffix not in PICKLES:
            yield from records(path)
            return
        refs = _entries(_unpickled(path), path, ("split", "ann_id", "image_id", "sentences"))
        parts = sorted({str(ref["split"]) for _, ref in refs})
        if self.part is None or self.part not in parts:
            given = "no part is named" if self.part is None else f"no entry is of part {self.part!r}"
            raise ConfigError(f"{given}, and the file has {', '.join(parts)}", str(path), f"set --part {parts[-1]}")
        named = self.instances or path.with_name("instances.json")
        boxes, pictures = (_by_id(named, *what) for what in (("annotations", "bbox"), ("images", "file_name")))
        for where, ref in refs:
            if ref["split"] == self.part:
                yield from _of(ref, where, boxes, pictures, named)


def _of(
    ref: Mapping[str, Any], where: str, boxes: Mapping[Any, Any], pictures: Mapping[Any, Any], named: Path
) -> Iterator[Record]:
    for key, known in (("ann_id", boxes), ("image_id", pictures)):
        if ref[key] not in known:
            fix = "take both files of one data set: refcoco, refcoco+ or refcocog"
            raise InputError(f"{key} {ref[key]} is not in {named}", where, fix)
    box, picture = Record(boxes[ref["ann_id"]], where).numbers("bbox", 4), pictures[ref["image_id"]]
    x, y, width, height = box
    shared = {"image": picture["file_name"], "box": [x, y, x + width, y + height]}
    shared |= {side: picture.get(side) for side in ("width", "height")}
    for number, sentence in enumerate(ref["sentences"]):
        text = sentence.get("sent") if isinstance(sentence, Mapping) else None
        yield Record({**shared, "text": text}, f"{where}, sentence {number}")


def _unpickled(path: Path) -> Any:
    try:
        return unpickle.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"it cannot be read: {error.strerror}", str(path), "check the path") from error
    except pickle.UnpicklingError as error:
        raise InputError(f"it is no pickle of plain data: {error}", str(path), AGAIN) from error


def _entries(found: Any, path: Path, names: tuple[str, ...]) -> list[tuple[str, Mapping[str, Any]]]:
    """(where, entry) of a list of dicts that have these keys. Raises InputError."""
    if not isinstance(found, list) or not found:
        raise InputError(f"it is {str(found)[:60]!r}, not a list of references", str(path), AGAIN)
    for number, entry in enumerate(found):
        lacking = [name for name in names if not isinstance(entry, Mapping) or name not in entry]
        if lacking:
            raise InputError(f"it has no {lacking[0]}", f"{path}, entry {number}", AGAIN)
    return [(f"{path}, entry {number}", entry) for number, entry in enumerate(found)]


def _by_id(path: Path, name: str, value: str) -> dict[Any, Mapping[str, Any]]:
    """The records of one list of COCO's file by their id. Raises InputError."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        fix = "name the instances.json that lies beside the pickle (--instances)"
        raise InputError(f"it cannot be read: {error}", str(path), fix) from error
    listed = found.get(name) if isinstance(found, Mapping) else None
    if not isinstance(listed, list):
        raise InputError(f"it has no list {name}", str(path), AGAIN)
    for number, entry in enumerate(listed):
        if not isinstance(entry, Mapping) or "id" not in entry or value not in entry:
            raise InputError(f"it has no id or no {value}", f"{path}, {name}, entry {number}", AGAIN)
    return {entry["id"]: entry for entry in listed}
