"""Conceptual Captions 3M: Train_GCC-training.tsv, `caption<tab>URL`, without a header or quotes."""

from __future__ import annotations

from collections.abc import Iterator

from formats.datasets import published
from formats.datasets.opened import Data
from formats.lists.urls import Row

ABOVE: tuple[str, ...] = ()
LIST = published.Published(columns=("caption", "url"), quotes=False)


def recognise(data: Data) -> str | None:
    return published.without_header(data, url_first=False)


def rows(data: Data) -> Iterator[Row]:
    yield from published.rows(data, LIST)
