"""Which of our images a question is about: by the name of its file, or by what the list says of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from pairloom.errors import InputError
from pairloom.extra import as_dict
from stages.contract import Corpus
from stages.qa.config import Config, QuestionFile
from stages.qa.records import records

ENDING = re.compile(r"\.(jpe?g|png|webp|gif|bmp|tiff?)$", re.IGNORECASE)

Names = Mapping[str, bytes | None]  # name -> image_id, None where several images have it


def images(corpus: Corpus, config: Config) -> dict[str | None, Names]:
    """The names of the images of each collection that a source asks for; under None those of all."""
    found: dict[str | None, dict[str, bytes | None]] = {source.of: {} for source in config.sources}
    for _, table in corpus.tables("curate", ["image_id", "url", "source", "extra"]):
        for row in table.to_pylist():
            name, image_id = name_of(row, config.match), row["image_id"]
            for of, known in found.items():
                if name and of in (None, row["source"]):
                    known[name] = image_id if known.get(name, image_id) == image_id else None
    return dict(found)


def name_of(row: Mapping[str, Any], match: str) -> str:
    """What a row of `curate` calls its image, without folder and ending; empty if the list does not say it."""
    if match == "url":
        return stem(unquote(urlsplit(row["url"]).path))
    return stem(as_dict(row["extra"]).get(match) or "")


def stem(name: str) -> str:
    """The name of a picture's file, without its folder and its ending."""
    return ENDING.sub("", PurePosixPath(name.strip()).name)


def names(source: QuestionFile) -> dict[str, str] | None:
    """The user's own names of a source's images, by their id there. Raises InputError."""
    if source.names is None:
        return None
    found = {}
    for key, name in records(source.names):
        if not isinstance(name, str) or not isinstance(key, str):
            given = f"the name is {str(name)[:80]!r}"
            raise InputError(given, f"{source.names}, entry {key}", 'write one object of texts: {"id": "name"}')
        found[key] = stem(name)
    return found


def called(image: str, source: QuestionFile, own: Mapping[str, str] | None) -> str:
    """The name by which a question's image is looked for; empty if the user's own names lack it."""
    if own is not None:
        return own.get(image, "")
    return stem(image if source.image is None else source.image.format(image))
