"""Which of our images a question is about: by the name of its file, or by what the list says of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

import pyarrow as pa

from pairloom.errors import InputError
from pairloom.extra import as_dict
from stages.contract import Corpus
from stages.qa.config import Config, QuestionFile
from stages.qa.records import records

ENDING = re.compile(r"\.(jpe?g|png|webp|gif|bmp|tiff?)$", re.IGNORECASE)

COLUMNS = ("image_id", "url", "source", "extra")
Names = Mapping[str, bytes | None]  # name -> image_id, None where several images have it


def images(corpus: Corpus, config: Config) -> dict[str | None, Names]:
    """The names of the images of each collection that a source asks for; under None those of all.

    Rows of `download` with the bytes of an image of `curate` are about that image: curate keeps one row of them.
    """
    found: dict[str | None, dict[str, bytes | None]] = {source.of: {} for source in config.sources}
    kept: set[bytes] = set()
    for _, table in corpus.tables("curate", COLUMNS):
        kept.update(table["image_id"].to_pylist())
        _note(table, config.match, found)
    for _, table in corpus.tables("download", COLUMNS) if config.all_names else ():
        ours = [image_id in kept for image_id in table["image_id"].to_pylist()]
        _note(table.filter(pa.array(ours, pa.bool_())), config.match, found)
    return dict(found)


def _note(table: pa.Table, match: str, found: Mapping[str | None, dict[str, bytes | None]]) -> None:
    for row in table.to_pylist():
        name, image_id = name_of(row, match), row["image_id"]
        for of, known in found.items():
            if name and of in (None, row["source"]):
                known[name] = image_id if known.get(name, image_id) == image_id else None


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
