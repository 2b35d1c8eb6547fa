"""Visual Genome: the phrases of an image's regions as its captions, its objects and their attributes as `truth`."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterator
from typing import Any

from formats.datasets.coco import path_of
from formats.datasets.opened import Data, pair
from formats.datasets.streams import items
from formats.datasets.truth import Thing
from formats.lists.bad import Bad
from formats.lists.records import as_json
from formats.lists.urls import Pair, Row, text

ABOVE = ("folder",)
IMAGES, REGIONS, OBJECTS, ATTRIBUTES = "image_data", "region_descriptions", "objects", "attributes"
SHOWN = ("coco_id", "flickr_id", "url")


def recognise(data: Data) -> str | None:
    images, regions = _file(data, IMAGES), _file(data, REGIONS)
    return f"it has {images} and {regions}" if images and regions else None


def _file(data: Data, name: str) -> str | None:
    found = [file for file in data.files if posixpath.basename(file) in (f"{name}.json", f"{name}_v1.4.0.json")]
    return min(found, default=None)


def rows(data: Data) -> Iterator[Row]:
    file = _file(data, IMAGES) or f"{IMAGES}.json"
    regions, objects, attributes = (_ById(data, _file(data, name)) for name in (REGIONS, OBJECTS, ATTRIBUTES))
    with data.text(file) as stream:
        for number, (_, image) in enumerate(items(stream, data.where(file)), 1):
            known = image.get("image_id", image.get("id"))
            yield file, number, (row := _pair(data, image, regions.of(known).get("regions") or []))
            if data.truths:
                found = objects.of(known).get("objects") or [], attributes.of(known).get("attributes") or []
                things = _things(*found)
                if things:
                    data.truths.add(row.url, image.get("width") or 0, image.get("height") or 0, things)
    for number, item in enumerate(regions.left(), 1):
        said = f"the regions of image {item.get('id', item.get('image_id'))!r} belong to no image of {IMAGES}"
        yield regions.file or "", number, Bad(as_json(item), said, "add the image, or take its regions out")


def _pair(data: Data, image: dict[str, Any], regions: list[dict[str, Any]]) -> Pair:
    """An image with its phrases, each once. `region_boxes` in extra has a box for each caption, as JSON."""
    url = image.get("url") or ""
    number = image.get("image_id", image.get("id"))
    path = path_of(data, posixpath.basename(url) or f"{number}.jpg", url)
    boxes: dict[str, list[float]] = {}
    for region in regions:
        if (phrase := text(region.get("phrase"))) is not None:
            boxes.setdefault(phrase, _box(region, "width", "height"))
    extra = {"vg_id": number, **{name: image.get(name) for name in SHOWN}}
    if boxes:
        extra["region_boxes"] = json.dumps(list(boxes.values()))
    return pair(data.locator(path), boxes, extra, source=data.source, kind="region")


def _box(item: dict[str, Any], width: str, height: str) -> list[float]:
    x, y = item.get("x", 0), item.get("y", 0)
    return [x, y, x + item.get(width, 0), y + item.get(height, 0)]


def _things(objects: list[dict[str, Any]], attributes: list[dict[str, Any]]) -> list[Thing]:
    words = {item.get("object_id"): tuple(item.get("attributes") or ()) for item in attributes}
    return [
        Thing(each["names"][0], tuple(_box(each, "w", "h")), words.get(each.get("object_id"), ()))  # type: ignore[arg-type]  # four numbers
        for each in objects or attributes
        if each.get("names")
    ]


class _ById:
    """The items of a file by image. The files have the images in one order, so that few wait in memory."""

    def __init__(self, data: Data, file: str | None) -> None:
        self.file = file
        self._items = self._read(data, file) if file else iter(())
        self._waiting: dict[Any, dict[str, Any]] = {}

    @staticmethod
    def _read(data: Data, file: str) -> Iterator[dict[str, Any]]:
        with data.text(file) as stream:
            yield from (item for _, item in items(stream, data.where(file)))

    def of(self, image: Any) -> dict[str, Any]:
        """The item of an image. An empty one if it has none."""
        while image not in self._waiting:
            item = next(self._items, None)
            if item is None:
                return {}
            self._waiting[_image(item)] = item
        return self._waiting.pop(image)

    def left(self) -> Iterator[dict[str, Any]]:
        """What no image asked for."""
        yield from self._waiting.values()
        yield from self._items


def _image(item: dict[str, Any]) -> Any:
    return item.get("image_id", item.get("id"))
