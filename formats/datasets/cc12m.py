"""Conceptual 12M: cc12m.tsv, `URL<tab>caption`, without a header or quotes."""

from __future__ import annotations

from collections.abc import Iterator

from formats.datasets import published
from formats.datasets.opened import Data
from formats.lists.urls import Row

ABOVE: tuple[str, ...] = ()
LIST = published.Published(columns=("url", "caption"), quotes=False)


def recognise(data: Data) -> str | None:
    return published.without_header(data, url_first=True)


def rows(data: Data) -> Iterator[Row]:
    yield from published.rows(data, LIST)
