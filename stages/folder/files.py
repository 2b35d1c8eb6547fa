"""Lists a folder's pictures for table `files`."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from formats.names import as_path, as_text
from pairloom.errors import InputError
from schemas.files import FILES

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
HIDDEN, NAMELESS, CLOSED = "hidden", "without an ending", "folders that cannot be opened"


@dataclass(frozen=True)
class Found:
    """The files below a folder."""

    folder: Path
    sources: tuple[str, ...]  # of the pictures: path in the folder as text (formats/names.py), sorted
    ignored: Mapping[str, int]  # how many other files end in what, the most common ending first


def find(folder: Path, out: Path) -> Found:
    """The picture files below the folder by their names, and a count of all others. Hidden ones are not pictures.

    out: a folder whose files are ours, and not looked at. Raises InputError if there is no folder or no picture in it.
    """
    if not folder.is_dir():
        raise InputError("there is no such folder", str(folder), "name the folder that holds the pictures")
    sources, ignored, own = list[str](), Counter[str](), out.resolve()

    def note_closed(error: OSError) -> None:
        ignored[CLOSED] += 1

    for place, folders, names in os.walk(folder, onerror=note_closed):
        folders[:] = [name for name in folders if Path(place, name).resolve() != own]
        inside = os.path.relpath(place, folder)
        parts = () if inside == os.curdir else Path(inside).parts
        for name in names:
            kind = _kind(name, any(part.startswith(".") for part in (*parts, name)))
            if kind in SUFFIXES:
                sources.append(as_text("/".join((*parts, name))))
            else:
                ignored[kind] += 1
    if not sources:
        raise InputError("there is no picture in this folder", str(folder), f"picture files end in {SUFFIXES}")
    return Found(folder, tuple(sorted(sources)), dict(ignored.most_common()))


def _kind(name: str, hidden: bool) -> str:
    return HIDDEN if hidden else as_text(os.path.splitext(name)[1].lower()) or NAMELESS


def list_pictures(found: Found, known: Sequence[str], read: Callable[[int, int], None]) -> pa.Table:
    """Table `files` of these pictures, those already known first and in their order, then by path.

    known: sources of an earlier listing. read(done, total) is told after each file.
    """
    there = set(found.sources)
    sources = [source for source in known if source in there]
    sources += sorted(there - set(sources))
    ids = []
    for done, source in enumerate(sources, start=1):
        ids.append(_identity(found.folder / as_path(source)))
        read(done, len(sources))
    return FILES.table(image_id=ids, source=sources)


def _identity(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()[:16]
    except OSError:  # the stage meets it again, and puts it into quarantine with its reason
        return bytes(16)
