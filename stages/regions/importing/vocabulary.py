"""Class and attribute names from the files in which they are published."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pairloom.errors import InputError

Kind = Literal["objects", "attributes"]
# Keys of VG-SGG-dicts files: name → number, where number 0 is background or "no attribute".
NUMBERED = {"objects": "label_to_idx", "attributes": "attribute_to_idx"}


def read(path: Path, kind: Kind, count: int) -> tuple[str, ...]:
    """The names in a file of one of the published forms, in the order of the classes, without background.

    Forms: one name a line, alternatives after commas (objects_vocab.txt: the first is taken). VG-SGG-dicts JSON. COCO
    or LVIS JSON (`categories`). A JSON list. Raises InputError if there are not `count` of them.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        names = _from_json(json.loads(text), kind) if path.suffix == ".json" else _from_lines(text)
    except (
        OSError,
        UnicodeDecodeError,
        json.JSONDecodeError,
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
    ) as error:
        raise InputError(
            f"the names of {kind} cannot be read: {error!r}",
            where=str(path),
            fix="give one name a line, a VG-SGG-dicts or COCO JSON, or a JSON list of names",
        ) from error
    if len(names) == count + 1 and names[0].strip("_").lower() in ("background", "no_attribute", "no attribute"):
        names = names[1:]
    if len(names) != count:
        raise InputError(
            f"it has {len(names)} names of {kind}, the detector has {count}",
            where=str(path),
            fix="give the vocabulary that was published with the detector",
        )
    if not all(names):
        raise InputError(f"name {names.index('') + 1} of {kind} is empty", where=str(path), fix="correct that line")
    return names


def _from_lines(text: str) -> tuple[str, ...]:
    lines = text.rstrip("\n").split("\n")
    return tuple(line.split(",")[0].strip() for line in lines)


def _from_json(content: Any, kind: Kind) -> tuple[str, ...]:
    if isinstance(content, list):
        return tuple(str(name["name"] if isinstance(name, Mapping) else name).strip() for name in content)
    if NUMBERED[kind] in content:
        numbers = {name: int(number) for name, number in content[NUMBERED[kind]].items() if int(number) > 0}
        if sorted(numbers.values()) != list(range(1, len(numbers) + 1)):
            raise ValueError(f"{NUMBERED[kind]} does not number its names 1, 2, 3, …")
        return tuple(sorted(numbers, key=lambda name: numbers[name]))
    categories = sorted(content["categories"], key=lambda each: int(each["id"]))
    return tuple(str(each["name"]).replace("_", " ").strip() for each in categories)


def numbered(kind: Kind, count: int) -> tuple[str, ...]:
    """Stand-ins where no vocabulary was given: "object 17"."""
    return tuple(f"{kind.removesuffix('s')} {number}" for number in range(count))
