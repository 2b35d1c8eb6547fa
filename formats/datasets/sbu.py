"""SBU Captions: sbu-captions-all.json, whose values are columns (image_urls, captions), or its two text files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

from formats.datasets.opened import Data, pair
from formats.datasets.streams import items
from formats.lists.bad import Bad, is_utf8
from formats.lists.urls import Row
from pairloom.errors import InputError

ABOVE: tuple[str, ...] = ()
URLS, CAPTIONS, USERS = "image_urls", "captions", "user_ids"
TEXTS = "SBU_captioned_photo_dataset_urls.txt", "SBU_captioned_photo_dataset_captions.txt"


def recognise(data: Data) -> str | None:
    for file in data.named(".json")[:1]:
        if f'"{URLS}"' in data.head(file):
            return f"{file} has the columns {URLS} and {CAPTIONS}"
    return f"it has {TEXTS[0]} and {TEXTS[1]}" if set(TEXTS) <= data.listed else None


def rows(data: Data) -> Iterator[Row]:
    if set(TEXTS) <= data.listed:
        yield from _of_texts(data)
    for file in data.named(".json"):
        columns: dict[str, list[Any]] = defaultdict(list)
        with data.text(file) as stream:
            for key, item in items(stream, data.where(file)):
                columns[key].append(item)
        urls, captions = columns[URLS], columns[CAPTIONS]
        if not urls or len(urls) != len(captions):
            said = f"it has {len(urls)} {URLS} and {len(captions)} {CAPTIONS}"
            raise InputError(said, data.where(file), "fetch the file again, or name another")
        for number, (url, caption, user) in enumerate(zip_longest(urls, captions, columns[USERS]), 1):
            yield file, number, _row(data, url, caption, {"user_id": user})


def _of_texts(data: Data) -> Iterator[Row]:
    urls_file, captions_file = TEXTS
    with data.text(urls_file, "\n") as urls, data.text(captions_file, "\n") as captions:
        for number, (url, caption) in enumerate(zip_longest(urls, captions), 1):
            yield urls_file, number, _row(data, (url or "").strip(), (caption or "").rstrip("\r\n"), {})


def _row(data: Data, url: Any, caption: Any, extra: dict[str, Any]) -> Any:
    if not isinstance(url, str) or not url.strip():
        return Bad(str(caption), f"the URL is {url!r}")
    if isinstance(caption, str) and not is_utf8(caption):
        return Bad.not_utf8(caption)
    return pair(url.strip(), [caption], extra, source=data.source)
