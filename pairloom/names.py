"""What a row calls its picture: the name of its file, or a value of the list, without folder and ending."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from pairloom.extra import as_dict

ENDING = re.compile(r"\.(jpe?g|png|webp|gif|bmp|tiff?)$", re.IGNORECASE)
OF_URL = "url"


def name_of(row: Mapping[str, Any], match: str) -> str:
    """What a row with `url` and `extra` calls its picture. Empty if the list does not say it.

    match: `url`, or the key of a value in `extra`.
    """
    if match == OF_URL:
        return stem(unquote(urlsplit(row["url"]).path))
    return stem(as_dict(row["extra"]).get(match) or "")


def stem(name: str) -> str:
    """The name of a picture's file, without its folder and its ending."""
    return ENDING.sub("", PurePosixPath(name.strip()).name)
