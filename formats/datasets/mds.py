"""Folders of MosaicML's streaming (MDS), with pictures as the bytes of JPEG or PNG files."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterator
from typing import Any

import numpy as np

from formats.datasets import hf
from formats.datasets.folder import URL
from formats.datasets.opened import Data
from formats.lists.urls import Row, pair_of
from formats.pictures.errors import SourceError
from formats.pictures.mds import PICTURES, Mds
from pairloom.errors import InputError

ABOVE = ("folder",)
INDEX = "index.json"


def recognise(data: Data) -> str | None:
    found = next((file for file in _indices(data) if '"mds"' in data.head(file)), None)
    return f"{found} names shards of the format mds" if found else None


def _indices(data: Data) -> list[str]:
    return [file for file in data.files if posixpath.basename(file) == INDEX]


def rows(data: Data) -> Iterator[Row]:
    for index in _indices(data):
        for shard in json.loads(data.read_text(index))["shards"]:
            file = posixpath.join(posixpath.dirname(index), shard["raw_data"]["basename"])
            if file not in data.listed:
                fix = "write or unpack the shards without compression"
                raise InputError(f"there is no {file}; packed shards are not read", data.where(index), fix)
            yield from _of_file(data, file)


def _of_file(data: Data, file: str) -> Iterator[Row]:
    with data.opened(file) as opened:
        try:
            shard = Mds(file, opened)
            picture, columns = _picture(data, file, shard), hf.caption_columns(data, shard.names)
            others = [name for name in shard.names if shard.encodings[name] not in PICTURES]
            split = hf.split_of(file)
            for number in range(shard.rows):
                row = {name: _decoded(shard.value(number, name), shard.encodings[name]) for name in others}
                row |= {URL: data.locator(file, str(number), picture), **({"split": split} if split else {})}
                yield file, number + 1, pair_of(row, URL, list(columns.captions), columns)
        except SourceError as error:
            raise InputError(error.detail, data.where(file), "write the shard again") from error


def _picture(data: Data, file: str, shard: Mds) -> str:
    found = [name for name in shard.names if shard.encodings[name] in PICTURES[:2]]
    found = found or [name for name in shard.names if shard.encodings[name] in PICTURES]
    return hf.one_of(data, file, found)


def _decoded(value: bytes, encoding: str) -> Any:
    """Text, JSON or a number. Any other value is not carried along."""
    if encoding == "str":
        return value.decode("utf-8")
    if encoding == "json":
        return json.loads(value)
    try:
        kind = np.dtype({"int": "int64"}.get(encoding, encoding)).newbyteorder("<")
    except TypeError:
        return None
    return np.frombuffer(value, kind)[0].item()
