"""Files of exports: one a picture, or a few."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from formats.features.record import Vocabularies
from formats.names import as_text
from pairloom.errors import InputError


class Files:
    """Writer of layouts that keep each picture in files of its own: FOLDER/NAME."""

    def __init__(self, folder: Path, words: Vocabularies, state: Mapping[str, Any]) -> None:
        self._folder = folder

    def add(self, entry: Iterable[tuple[str, bytes]]) -> None:
        """entry: (name, content) of each of a picture's files."""
        for name, content in entry:
            put(self._folder, name, content)

    def flush(self) -> dict[str, Any]:
        return {}

    def close(self) -> None:
        """Nothing is open."""


def put(folder: Path, name: str, content: bytes) -> None:
    """Write FOLDER/NAME whole or not at all. Raises InputError for a name that leaves the folder or is too long."""
    path = folder / name
    if not name or "\0" in name or ".." in Path(name).parts or Path(name).is_absolute():
        raise InputError(f"{name!r} can't be a file", str(folder), "name pictures by another column (--key)")
    if len(path.name.encode()) > 250:
        raise InputError(f"the file name {as_text(path.name)[:60]}… is too long", str(folder), "take another --key")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name[:40]}.tmp")
    temporary.write_bytes(content)
    temporary.replace(path)
