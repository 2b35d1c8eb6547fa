"""Lists a folder's pictures for table `files`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa

from pairloom.errors import InputError
from schemas.files import FILES

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")


def list_pictures(folder: Path, known: Sequence[str], read: Callable[[int, int], None]) -> pa.Table:
    """All picture files below the folder, those already known first and in their order, then by path.

    known: sources of an earlier listing. read(done, total) is told after each file. Hidden files and folders are left
    out. Raises InputError if there is no such folder or no picture in it.
    """
    if not folder.is_dir():
        raise InputError("there is no such folder", str(folder), "name the folder that holds the pictures")
    found = {
        path.relative_to(folder).as_posix(): path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES and path.is_file() and not _hidden(path.relative_to(folder))
    }
    if not found:
        raise InputError("there is no picture in this folder", str(folder), f"picture files end in {SUFFIXES}")
    sources = [source for source in known if source in found]
    sources += sorted(set(found) - set(sources))
    ids = []
    for done, source in enumerate(sources, start=1):
        ids.append(_identity(found[source]))
        read(done, len(sources))
    return FILES.table(image_id=ids, source=sources)


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _identity(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()[:16]
    except OSError:  # the stage meets it again, and puts it into quarantine with its reason
        return bytes(16)
