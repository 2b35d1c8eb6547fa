"""COCO's captions_*.json, with the boxes and classes of instances_*.json beside them as `truth`.

`pairloom export --as coco` and others write captions.json and instances.json in a folder that is named as the split.
"""

from __future__ import annotations

import posixpath
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from formats.datasets.opened import Data, pair
from formats.datasets.streams import items
from formats.datasets.truth import Thing
from formats.lists.bad import Bad
from formats.lists.records import as_json
from formats.lists.urls import Row

ABOVE = ("folder",)
SPLIT = re.compile(r"_(train|val|test)")
Boxes = dict[Any, list[tuple[Any, list[float]]]]


@dataclass
class Captions:
    """What a file of captions holds."""

    licences: dict[Any, dict[str, Any]] = field(default_factory=dict)
    images: list[dict[str, Any]] = field(default_factory=list)
    texts: dict[Any, list[str]] = field(default_factory=lambda: defaultdict(list))
    annotations: int = 0
    year: Any = None  # of the edition


def recognise(data: Data) -> str | None:
    found = _files(data, "captions")
    if found:
        return f"it has {found[0]}"
    if data.file and data.file.endswith(".json") and {'"images"', '"annotations"'} <= _keys(data):
        return "it has images and annotations"
    return None


def _keys(data: Data) -> set[str]:
    with data.text(data.file or "") as stream:
        found = set[str]()
        for key, _ in items(stream, data.place):
            found.add(f'"{key}"')
            if len(found) > 8 or {'"images"', '"annotations"'} <= found:
                break
    return found


def _files(data: Data, kind: str) -> list[str]:
    return [f for f in data.files if re.fullmatch(rf"{kind}(_.*)?\.json", posixpath.basename(f))]


def rows(data: Data) -> Iterator[Row]:
    for file in _files(data, "captions") or data.named(".json"):
        yield from _of_file(data, file)


def _of_file(data: Data, file: str) -> Iterator[Row]:
    found, orphans = _read(data, file)
    split, edition = _split_of(file), f"{data.source} {found.year or ''}".strip()
    things = _things(data, file) if data.truths else None
    for number, image in enumerate(found.images, 1):
        beside = posixpath.dirname(file)
        url = data.locator(path_of(data, image.get("file_name") or "", image.get("coco_url") or "", beside=beside))
        licence = found.licences.get(image.get("license"), {})
        extra = {
            "coco_id": image.get("id"),
            "split": split,
            "licence_url": licence.get("url"),
            **{name: image.get(name) for name in ("coco_url", "flickr_url", "date_captured")},
        }
        captions = found.texts.get(image.get("id"), [])
        named = licence.get("name") or image.get("license_name")
        yield file, number, pair(url, captions, extra, licence=named, source=edition)
        if things is not None and data.truths and image.get("id") in things:
            data.truths.add(url, image.get("width") or 0, image.get("height") or 0, things[image["id"]])
    yield from ((file, number, bad) for number, bad in orphans)


def _split_of(file: str) -> str | None:
    """train, val or test: in the file's name, as COCO has it, or else the name of its folder."""
    named = SPLIT.search(posixpath.basename(file))
    folder = posixpath.basename(posixpath.dirname(file))
    return named[1] if named else folder if folder in ("train", "val", "test") else None


def _read(data: Data, file: str) -> tuple[Captions, list[tuple[int, Bad]]]:
    found, known = Captions(), set[Any]()
    belongs: list[tuple[int, Any]] = []
    with data.text(file) as stream:
        for key, item in items(stream, data.where(file)):
            if key == "images":
                found.images.append(item)
                known.add(item.get("id"))
            elif key == "info":
                found.year = item.get("year") if isinstance(item, dict) else None
            elif key == "licenses":
                found.licences[item.get("id")] = item
            elif key == "annotations":
                found.annotations += 1
                if "caption" in item:
                    found.texts[item.get("image_id")].append(item["caption"])
                    belongs.append((found.annotations, item))
    orphans = [(number, item) for number, item in belongs if item.get("image_id") not in known]
    return found, [(number, _orphan(item)) for number, item in orphans]


def _orphan(item: dict[str, Any]) -> Bad:
    said = f"the caption's image_id {item.get('image_id')!r} is in none of the images"
    return Bad(as_json(item), said, "add the image to the file's images, or take the caption out")


def path_of(data: Data, name: str, url: str = "", folder: str = "", beside: str = "") -> str:
    """Where a picture lies: by its name alone, in the folder of its URL, or under `images`. Else where it is alone.

    beside: the folder of the file that names it, which may have `images`, too.
    The layouts of the wild differ. Where none has it, the first is named, and stage download says that it is missing.
    """
    folder = folder or (posixpath.basename(posixpath.dirname(url)) if url else "")
    places = ((folder, name), (name,), ("images", folder, name), ("images", name), (beside, "images", name))
    tried = [posixpath.join(*parts) for parts in places]
    listed = data.in_pictures
    if listed is None:
        return tried[0]
    path = next((each for each in tried if each in listed), None)
    return path or data.by_name.get(name) or tried[0]


def _things(data: Data, file: str) -> dict[Any, list[Thing]]:
    """The objects of each image, from the file of instances of the same name. Crowds are left out."""
    name = posixpath.basename(file).replace("captions", "instances", 1)
    beside = posixpath.join(posixpath.dirname(file), name)
    boxes: Boxes = defaultdict(list)
    names: dict[Any, str] = {}
    if name != posixpath.basename(file) and beside in (data.files if not data.file else tuple(data.root.files())):
        with data.text(beside) as stream:
            for key, item in items(stream, data.where(beside)):
                if key == "categories":
                    names[item["id"]] = item["name"]
                elif key == "annotations" and not item.get("iscrowd"):
                    boxes[item["image_id"]].append((item["category_id"], item["bbox"]))
    return {image: [_thing(names[kind], *box) for kind, box in found] for image, found in boxes.items()}


def _thing(name: str, x: float, y: float, width: float, height: float) -> Thing:
    return Thing(name, (x, y, x + width, y + height))
