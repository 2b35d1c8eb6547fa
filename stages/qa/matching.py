"""Which of our images a question is about: by the name of its file, or by what the list says of it."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from pairloom.errors import InputError
from pairloom.names import name_of, stem
from stages.contract import Corpus
from stages.qa.config import Config, QuestionFile
from stages.qa.records import records

COLUMNS = ("image_id", "url", "source", "extra")
Names = Mapping[str, bytes | None]  # name -> image_id, None where several images have it


def images(corpus: Corpus, config: Config) -> dict[str | None, Names]:
    """The names of the images of each collection that a source asks for. Under None those of all.

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
    """The name by which a question's image is looked for. Empty if the user's own names lack it."""
    if own is not None:
        return own.get(image, "")
    return stem(image if source.image is None else source.image.format(image))
