"""COCO's JSON: captions.json and instances.json with the regions as objects, and the pictures under images/.

Ids of pictures are the number at the end of the key where that is of no other picture before it, else the next free one
from 10^12 on. `key` of each image has the user's own. A box is x y width height in pixels. Categories are the
detector's classes, from 1 on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from formats.exports.numbering import Lists, picture
from formats.exports.pairs import Caption, Pair
from formats.exports.settings import Settings
from formats.features.keys import NUMBER

FREE = 10**12
PICTURES = "taken"
PARTS = ("images", "captions", "objects")


def entry(pair: Pair, settings: Settings) -> tuple[Pair, list[dict[str, Any]]]:
    """(the pair without its regions, these as annotations)."""
    return replace(pair, regions=None), list(objects(pair))


class Writer:
    """FOLDER/captions.json, FOLDER/instances.json and FOLDER/images."""

    def __init__(self, folder: Path, settings: Settings, state: Mapping[str, Any]) -> None:
        self._folder, self._settings = folder, settings
        self._lists = Lists(folder, PARTS, state.get("lists", {}))
        self._taken: set[int] = set(state.get("taken", []))
        self._counts: dict[str, int] = dict(state.get("counts", {"captions": 0, "objects": 0}))

    def add(self, entry: tuple[Pair, list[dict[str, Any]]]) -> None:
        pair, found = entry
        number = self._number(pair.key)
        image = {"id": number, "file_name": picture(self._folder, pair).removeprefix("images/"), "key": pair.key}
        image |= {"width": pair.width, "height": pair.height, "coco_url": pair.url, "license_name": pair.licence}
        self._lists.add("images", image)
        for one in pair.captions:
            caption = {"id": self._next("captions"), "image_id": number, "caption": one.text, "lang": one.lang}
            self._lists.add("captions", caption)
        for item in found:
            self._lists.add("objects", {"id": self._next("objects"), "image_id": number, **item})

    def _number(self, key: str) -> int:
        found = NUMBER.search(key)
        number = int(found[1]) if found else -1
        if not found or number in self._taken or number >= FREE:
            number = FREE + len(self._taken)
        self._taken.add(number)
        return number

    def _next(self, name: str) -> int:
        self._counts[name] += 1
        return self._counts[name]

    def flush(self) -> dict[str, Any]:
        return {"lists": self._lists.flush(), "taken": sorted(self._taken), "counts": self._counts}

    def close(self) -> None:
        self._lists.close()
        info = {"description": self._settings.name}
        categories = [{"id": number, "name": name} for number, name in enumerate(self._settings.classes, start=1)]
        captions = {"info": info, "licenses": [], "images": "@images", "annotations": "@captions"}
        self._lists.write(self._folder / "captions.json", captions)
        instances = {"info": info, "licenses": [], "categories": categories, "images": "@images"}
        self._lists.write(self._folder / "instances.json", instances | {"annotations": "@objects"})


def objects(pair: Pair) -> Iterator[dict[str, Any]]:
    """The regions as COCO's annotations. None where their classes are unknown."""
    found = pair.regions
    if found is None or found.class_ids is None or found.width is None:
        return
    for row, (x1, y1, x2, y2) in enumerate(found.boxes.astype(float).tolist()):
        width, height = x2 - x1, y2 - y1
        item: dict[str, Any] = {"category_id": int(found.class_ids[row]) + 1, "bbox": [x1, y1, width, height]}
        item |= {"area": width * height, "iscrowd": 0}
        yield item | ({} if found.class_scores is None else {"score": float(found.class_scores[row])})


def read(folder: Path) -> Iterator[Pair]:
    """The pairs of a folder. Its JSON is in memory."""
    content = json.loads((folder / "captions.json").read_text(encoding="utf-8"))
    said: dict[int, list[Caption]] = {}
    for one in content["annotations"]:
        said.setdefault(one["image_id"], []).append(Caption(one["caption"], one["lang"]))
    for image in content["images"]:
        name = image["file_name"]
        body = (folder / "images" / name).read_bytes() if name else b""
        captions = said.get(image["id"], [])
        yield Pair(
            key=image["key"], image=body, format="", width=image["width"], height=image["height"], captions=captions
        )


def finish(out: Path, splits: dict[str, int], settings: Settings) -> None:
    """Nothing belongs to all splits."""
