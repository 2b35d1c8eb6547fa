"""Data sets of Hugging Face: one that was saved to disk (Arrow), or a folder of Parquet files with pictures as bytes.

The features that `datasets` wrote are heeded: which column is an Image, what the classes of a ClassLabel are called.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any

import yaml

from formats.datasets import rowfiles
from formats.datasets.folder import URL
from formats.datasets.opened import Data
from formats.lists.columns import ListColumns
from formats.lists.urls import Row, pair_of, text
from pairloom.errors import InputError

ABOVE: tuple[str, ...] = ("folder",)
CAPTIONS = ("caption", "captions", "text", "texts", "sentence", "sentences")  # where the setting's column is not there
HEAD = re.compile(r"---\n(.*?)\n---", re.DOTALL)  # of a card
SPLIT = re.compile(r"(?:^|/)(train|validation|valid|val|test)(?:[-_./]|$)")


def recognise(data: Data) -> str | None:
    states = [file for file in data.files if posixpath.basename(file) == "state.json"]
    if states and data.named(".arrow"):
        return f"it has {states[0]} of a data set that was saved to disk"
    for file in data.named(".parquet")[:1]:
        pictures = rowfiles.columns(data, file).pictures
        if pictures:
            return f"column {pictures[0]!r} of {file} holds pictures"
    return None


def rows(data: Data) -> Iterator[Row]:
    for file in _files(data):
        yield from of_file(data, file)


def _files(data: Data) -> list[str]:
    """The files of rows in their own order: that of each state.json, or of their names."""
    states = [file for file in data.files if posixpath.basename(file) == "state.json"]
    if not states:
        return data.named(".parquet", ".arrow")
    found = []
    for state in states:
        listed = json.loads(data.read_text(state)).get("_data_files", [])
        found += [posixpath.join(posixpath.dirname(state), one["filename"]) for one in listed]
    return found


def of_file(data: Data, file: str) -> Iterator[Row]:
    """The rows of one file. Raises InputError if it has no column of pictures, or several."""
    known = rowfiles.columns(data, file)
    picture = one_of(data, file, known.pictures)
    columns = caption_columns(data, known.schema.names)
    others = [name for name in known.schema.names if name not in known.pictures and name not in data.columns.drop]
    labels, split, card = known.labels(), split_of(file), card_of(data, file)
    for number, row in enumerate(rowfiles.rows(data, file, others)):
        for name, classes in labels.items():
            if isinstance(row.get(name), int) and 0 <= row[name] < len(classes):
                row[name] = classes[row[name]]
        if split and "split" not in row:
            row["split"] = split
        for column, said in ((columns.licence_column, card.licence), (columns.source_column, card.source)):
            if row.get(column) is None and said:
                row[column] = said
        row[URL] = data.locator(file, str(number), picture)
        yield file, number + 1, pair_of(row, URL, list(columns.captions), columns)


@dataclass(frozen=True)
class Card:
    """What a data set says of itself as a whole."""

    licence: str | None = None
    source: str | None = None  # its name and version


def card_of(data: Data, file: str) -> Card:
    """From the dataset_info.json beside a file, and the head of the README.md of the data set."""
    info: dict[str, Any] = {}
    beside = posixpath.join(posixpath.dirname(file), "dataset_info.json")
    if beside in data.listed:
        info = json.loads(data.read_text(beside))
    licence = info.get("license") or _head(data).get("license")
    version = info.get("version")
    said = version.get("version_str") if isinstance(version, dict) else version
    name = info.get("dataset_name")
    return Card(text(licence), " ".join(filter(None, (name, text(said)))) if name else None)


def _head(data: Data) -> dict[str, Any]:
    """The values at the head of README.md. None if it has no head, or one that is no YAML."""
    head = HEAD.match(data.read_text("README.md")) if "README.md" in data.listed else None
    try:
        found = yaml.safe_load(head[1]) if head else None
    except yaml.YAMLError:
        found = None
    return found if isinstance(found, dict) else {}


def caption_columns(data: Data, names: Collection[str]) -> ListColumns:
    """The settings' columns. Where they name none of captions, the one that is usually called so."""
    if data.columns.captions != ("caption",):
        return data.columns
    return replace(data.columns, caption_column=next((name for name in CAPTIONS if name in names), None))


def split_of(file: str) -> str | None:
    """train, val or test, by the name of a file or its folder."""
    found = SPLIT.search(file)
    return {"validation": "val", "valid": "val"}.get(found[1], found[1]) if found else None


def one_of(data: Data, file: str, found: list[str]) -> str:
    """The column of pictures: the one that the settings name, or the only one. Raises InputError."""
    named = data.columns.url_column
    if named in found:
        return named
    if len(found) != 1:
        said = f"the columns {', '.join(found)} hold pictures" if found else "no column holds pictures"
        fix = "name the one to take: sample.url_column (--url-col)" if found else "name another data set, or format"
        raise InputError(said, data.where(file), fix)
    return found[0]
