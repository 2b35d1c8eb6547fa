"""Karpathy's split: dataset_coco.json, dataset_flickr30k.json and dataset_flickr8k.json."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from formats.datasets.coco import path_of
from formats.datasets.opened import Data, pair
from formats.datasets.streams import items
from formats.lists.bad import Bad
from formats.lists.records import as_json
from formats.lists.urls import Row

ABOVE = ("folder",)


def recognise(data: Data) -> str | None:
    for file in _files(data):
        head = data.head(file)
        if '"sentences"' in head and '"filename"' in head:
            return f"{file} has images with sentences and a split"
    return None


def _files(data: Data) -> list[str]:
    if data.file:
        return data.named(".json")
    return [file for file in data.named(".json") if posixpath.basename(file).startswith("dataset")]


def rows(data: Data) -> Iterator[Row]:
    for file in _files(data):
        number = 0
        with data.text(file) as stream:
            for key, image in items(stream, data.where(file)):
                if key != "images":
                    continue
                number += 1
                if not image.get("filename"):
                    yield file, number, Bad(as_json(image), "the image has no filename")
                    continue
                path = path_of(data, image["filename"], folder=image.get("filepath") or "")
                extra = {name: image.get(key) for name, key in (("split", "split"), ("coco_id", "cocoid"))}
                captions = [sentence.get("raw") for sentence in image.get("sentences") or ()]
                yield file, number, pair(data.locator(path), captions, extra, source=data.source)
