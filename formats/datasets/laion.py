"""LAION-400M, LAION-5B and Re-LAION: Parquet with URL, TEXT, LICENSE ("?" is none), LANGUAGE, …"""

from __future__ import annotations

from collections.abc import Iterator

from formats.datasets import published
from formats.datasets.opened import Data
from formats.lists.urls import Row

ABOVE: tuple[str, ...] = ()
LIST = published.Published(
    names={
        "url_column": "URL",
        "caption_column": "TEXT",
        "licence_column": "LICENSE",
        "lang_column": "LANGUAGE",
    },
    none=("?",),
)
MARKS = {"URL", "TEXT"}


def recognise(data: Data) -> str | None:
    return published.with_columns(data, MARKS)


def rows(data: Data) -> Iterator[Row]:
    yield from published.rows(data, LIST)
