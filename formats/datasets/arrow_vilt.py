"""The pyarrow files of ViLT, METER and their kin: image (bytes), caption (a list), image_id, split."""

from __future__ import annotations

from collections.abc import Iterator

from formats.datasets import hf, rowfiles
from formats.datasets.opened import Data
from formats.lists.urls import Row

ABOVE = ("folder",)


def recognise(data: Data) -> str | None:
    if any(file.rpartition("/")[2] == "state.json" for file in data.files):
        return None
    for file in data.named(".arrow")[:1]:
        schema = rowfiles.columns(data, file).schema
        if {"image", "caption"} <= set(schema.names):
            return f"{file} has the columns {', '.join(schema.names)}"
    return None


def rows(data: Data) -> Iterator[Row]:
    for file in data.named(".arrow"):
        yield from hf.of_file(data, file)
