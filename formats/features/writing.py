"""Files of exports: one a picture, and lists of keys that become part of a database at its end."""

from __future__ import annotations

from pathlib import Path

from formats.names import as_text
from pairloom.errors import InputError


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
