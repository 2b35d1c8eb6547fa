"""Pictures in folders: captions in a `.txt` or `.json` beside each, or in a list with a column of paths.

A list is a csv, tsv, jsonl or parquet with one of PATHS as a column, such as the `metadata.jsonl` of imagefolder. Paths
are relative to the list's own folder. Of a text beside a picture, the whole is one caption. A `.json` is a record whose
further fields go to `extra`, and its caption counts where there is no `.txt`.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterator
from typing import Any

from formats.datasets.opened import Data
from formats.lists import records
from formats.lists.bad import Bad, is_utf8
from formats.lists.files import kind_and_packing
from formats.lists.urls import Row, pair_of
from formats.names import as_text

ABOVE: tuple[str, ...] = ()
PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")
LISTS = ("csv", "tsv", "jsonl", "ndjson", "parquet")
PATHS = ("file_name", "path", "filepath", "file_path", "image_path", "filename", "image")
URL = "\0url"  # under which a record holds its locator: no list has a column of this name


def recognise(data: Data) -> str | None:
    found = data.named(*PICTURES)
    return f"it has pictures, such as {as_text(found[0])}" if found else None


def rows(data: Data) -> Iterator[Row]:
    lists = list(_lists(data))
    if lists:
        for file, column in lists:
            yield from _listed(data, file, column)
    else:
        yield from _beside(data)


def _lists(data: Data) -> Iterator[tuple[str, str]]:
    """(file, its column of paths) of each list."""
    for file in data.files:
        if kind_and_packing(file)[0] in LISTS:
            first = next(records.numbered_rows(data.where(file)), None)
            if first is not None and not isinstance(first.row, Bad):
                column = next((name for name in PATHS if isinstance(first.row.get(name), str)), None)
                if column:
                    yield file, column


def _listed(data: Data, file: str, column: str) -> Iterator[Row]:
    folder, needed = posixpath.dirname(file), data.columns.must_exist()[1:]
    for numbered in records.numbered_rows(data.where(file), data.columns.columns, data.columns.quotes):
        row = numbered.row
        if isinstance(row, Bad):
            yield file, numbered.number, row
            continue
        path = posixpath.normpath(posixpath.join(folder, str(row.get(column) or "")))
        extra = {name: value for name, value in row.items() if name != column}
        found: Any = {**extra, URL: data.locator(path)} if row.get(column) else {**extra, URL: None}
        yield file, numbered.number, pair_of(found, URL, needed, data.columns)


def _beside(data: Data) -> Iterator[Row]:
    """The pictures in order of their paths, each with what lies beside it. Then texts without a picture."""
    stems = {posixpath.splitext(file)[0] for file in data.named(*PICTURES)}
    for number, file in enumerate(data.files, 1):
        stem, ending = posixpath.splitext(file)
        if ending.lower() in PICTURES:
            yield file, 1, _pair(data, file, stem)
        elif ending.lower() in (".txt", ".json") and stem not in stems:
            said = f"{as_text(file)} belongs to no picture"
            yield file, number, Bad(as_text(file), said, "put the picture beside it, or take the text away")


def _pair(data: Data, file: str, stem: str) -> Any:
    record: dict[str, Any] = {}
    if f"{stem}.json" in data.listed:
        found = record_of(data.read_text(f"{stem}.json"), f"{stem}.json")
        if isinstance(found, Bad):
            return found
        record = found
    if data.columns.captions and f"{stem}.txt" in data.listed:
        said = data.read_text(f"{stem}.txt").rstrip("\r\n")
        if not is_utf8(said):
            return Bad.not_utf8(said)
        record |= {data.columns.captions[0]: [said]}
    return pair_of({**record, URL: data.locator(file)}, URL, [], data.columns)


def record_of(text: str, file: str) -> dict[str, Any] | Bad:
    """The object of a JSON file beside a picture."""
    if not is_utf8(text):
        return Bad.not_utf8(text)
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        return Bad(text, f"{as_text(file)} cannot be read as JSON: {error}")
    return found if isinstance(found, dict) else Bad(text, f"{as_text(file)} is no object")
