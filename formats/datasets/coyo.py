"""COYO-700M: Parquet with url, text, and measures of other programs."""

from __future__ import annotations

from collections.abc import Iterator

from formats.datasets import published
from formats.datasets.opened import Data
from formats.lists.urls import Row

ABOVE: tuple[str, ...] = ()
LIST = published.Published(names={"caption_column": "text"})
MARKS = {"url", "text", "clip_similarity_vitb32"}


def recognise(data: Data) -> str | None:
    return published.with_columns(data, MARKS)


def rows(data: Data) -> Iterator[Row]:
    yield from published.rows(data, LIST)
