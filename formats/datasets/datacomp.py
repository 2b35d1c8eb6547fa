"""DataComp: Parquet with uid, url, text and the SHA-256 of each picture, which is verified."""

from __future__ import annotations

from collections.abc import Iterator

from formats.datasets import published
from formats.datasets.opened import Data
from formats.lists.urls import Row

ABOVE: tuple[str, ...] = ()
LIST = published.Published(names={"caption_column": "text", "checksum_column": "sha256"})
MARKS = {"uid", "url", "text", "sha256"}


def recognise(data: Data) -> str | None:
    return published.with_columns(data, MARKS)


def rows(data: Data) -> Iterator[Row]:
    yield from published.rows(data, LIST)
