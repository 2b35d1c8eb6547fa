"""The names of a detector's classes and attributes, which most files of features only number."""

from __future__ import annotations

import json
from pathlib import Path

from formats import features
from formats.features.record import Record, Vocabularies
from pairloom.errors import InputError

OBJECTS, ATTRIBUTES = "objects_vocab.txt", "attributes_vocab.txt"  # as bottom-up attention calls them
VISUAL_GENOME = (1600, 400)  # classes and attributes of the detectors whose features these layouts hold


def words_for(first: Record, layout: str, path: Path, given: Vocabularies) -> Vocabularies:
    """Those that the user gave, else those of files beside the features, else the layout's own, else numbers."""
    beside = [_beside(path, name) for name in (OBJECTS, ATTRIBUTES)]
    own = getattr(features.load(layout), "vocabulary", lambda _: Vocabularies())(path)
    classes = given.classes or beside[0] or own.classes or _numbered("class", first, 0)
    attributes = given.attributes or beside[1] or own.attributes or _numbered("attribute", first, 1)
    return Vocabularies(classes=tuple(classes), attributes=tuple(attributes))


def _beside(path: Path, name: str) -> tuple[str, ...]:
    folder = path if path.is_dir() else path.parent
    file = next((each for each in (folder / name, folder.parent / name) if each.is_file()), None)
    return read(file) if file else ()


def _numbered(what: str, first: Record, place: int) -> tuple[str, ...]:
    """ "class 17". None where the features know no classes."""
    known = (first.class_ids, first.attribute_ids)[place] is not None
    probs = first.probs.shape[1] - 1 if first.probs is not None and not place else 0
    return tuple(f"{what} {number}" for number in range(probs or VISUAL_GENOME[place])) if known or probs else ()


def read(path: Path) -> tuple[str, ...]:
    """One name a line, in the order of the ids without background, or a JSON list. Raises InputError."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        names = [str(name) for name in json.loads(text)] if path.suffix == ".json" else text.rstrip("\n").split("\n")
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"the names can't be read: {error}", str(path), "give one name a line") from error
    if len(names) > 65535 or not all(name.strip() for name in names):
        raise InputError("a name is empty, or there are more than 65,535", str(path), "give one name a line")
    return tuple(name.strip() for name in names)


def write(folder: Path, words: Vocabularies) -> None:
    """The files that `words_for` finds beside the features."""
    for name, names in ((OBJECTS, words.classes), (ATTRIBUTES, words.attributes)):
        if names:
            (folder / name).write_text("".join(f"{each}\n" for each in names), encoding="utf-8")
