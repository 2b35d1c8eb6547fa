"""Flickr30k's and Flickr8k's captions: `NAME.jpg#0<tab>caption` (.token), or `image_name| comment_number| comment`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby

from formats.datasets.coco import path_of
from formats.datasets.opened import Data, pair
from formats.lists.bad import Bad, is_utf8
from formats.lists.urls import Row

ABOVE = ("folder",)
TOKEN = re.compile(r"(?P<name>[^#\t]+)#(?P<number>\d+)\t(?P<caption>.*)")
# Kaggle's results.csv. The line of 2199200615.jpg that lacks its second | is known, and read.
BARS = re.compile(r"(?P<name>[^|]+)\|\s*(?P<number>\d+)(?:\s*\||\s)\s*(?P<caption>.*)")


def recognise(data: Data) -> str | None:
    found = _files(data)
    return f"it has {found[0]}" if found else None


def _files(data: Data) -> list[str]:
    tokens = [file for file in data.named(".token", ".token.txt") if TOKEN.match(data.head(file))]
    return tokens or [file for file in data.named(".csv") if data.head(file).startswith("image_name|")]


def rows(data: Data) -> Iterator[Row]:
    for file in _files(data):
        with data.text(file) as stream:
            lines = enumerate((line.rstrip("\r\n") for line in stream), 1)
            read = (_line(number, line) for number, line in lines if line.strip())
            for name, found in groupby(read, key=lambda line: line[1]):
                group = list(found)
                if name is None:
                    yield from ((file, number, bad) for number, _, bad in group if isinstance(bad, Bad))
                else:
                    url = data.locator(path_of(data, name, folder="flickr30k-images"))
                    yield file, group[0][0], pair(url, [text for *_, text in group], source=data.source)


def _line(number: int, line: str) -> tuple[int, str | None, str | Bad]:
    """(number, picture, caption). The picture is None where the line cannot be read, or is the header."""
    if not is_utf8(line):
        return number, None, Bad.not_utf8(line)
    found = TOKEN.fullmatch(line) or BARS.fullmatch(line)
    if found is None:
        header = number == 1 and line.startswith("image_name|")
        return number, None, "" if header else Bad(line, "it is neither NAME#0<tab>caption nor NAME| 0| caption")
    return number, found["name"].strip(), found["caption"].strip()
