"""Locators: where a picture lies that is not on the web, as `SOURCE:PATH`.

SOURCE is a name that the settings give to a folder or bucket (`sample.sources`), so that a data set may be moved: what
is made of it depends on the names alone. PATH goes on from there, with `/`, as formats/names.py writes paths:

| locator | what it names |
|---|---|
| `coco:val2017/000000000139.jpg` | a file |
| `laion:00000.tar/000000012.jpg` | a member of a tar |
| `hf:train-00000.parquet/17/image` | row 17 (counted from 0) of the column `image` of a Parquet file |
| `vilt:coco_val.arrow/17/image`, `mds:shard.00000.mds/17/image` | the same of an Arrow file, or one of MDS |
| `i2d:00000.tfrecord/000000012/jpg` | the value `jpg` of the Example whose `key` is 000000012 |
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from formats.names import as_path, as_text

NAME = re.compile(r"[a-z][a-z0-9_-]*")
SCHEMES = frozenset({"http", "https", "file", "data", "ftp"})  # names that would be taken for those of URLs
CONTAINERS = (".tar", ".parquet", ".arrow", ".mds", ".tfrecord")


@dataclass(frozen=True)
class Locator:
    """A place in a source; path: as Python has it from the system, not escaped."""

    source: str
    path: str

    def __str__(self) -> str:
        return f"{self.source}:{as_text(self.path)}"


def is_name(text: str) -> bool:
    """Whether this may be the name of a source."""
    return NAME.fullmatch(text) is not None and text not in SCHEMES


def parse(text: str, sources: Collection[str]) -> Locator | None:
    """The locator that a row's URL is, if it begins with the name of one of these sources."""
    name, colon, path = text.partition(":")
    return Locator(name, as_path(path)) if colon and name in sources else None


def of(source: str, *parts: str) -> str:
    """The locator of a file, or of what lies in it, as text."""
    return str(Locator(source, "/".join(parts)))
