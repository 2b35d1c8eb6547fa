"""Give the files of another folder a name here, too, so that equal shards lie on the disk once."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from pairloom.errors import StoreError
from pairloom.store import index
from pairloom.store.folder import Entry
from pairloom.store.hashed import sha256_file
from pairloom.store.writing import committed


def link_shard(folder: Path, entry: Entry, source: Path) -> bool:
    """Give another folder's shard a name here, too, if its bytes are those of the entry. Returns whether they are.

    A hard link is safe, because nobody writes into a shard: who makes it again renames a new file, and the name in the
    other folder still leads to the old bytes. Raises StoreError when this folder cannot be written.
    """

    def intact(file: Path) -> bool:
        return file.stat().st_size == entry.bytes and sha256_file(file) == entry.sha256

    return _link(folder, f"{entry.name}.parquet", source, intact)


def link_index(folder: Path, entry: Entry, source: Path) -> bool:
    """The same for the index of another folder's shard; source: the shard."""
    return _link(
        folder,
        index.name_of(entry.name),
        index.path_of(source),
        lambda file: index.read(file, entry.sha256) is not None,
    )


class _NotIntactError(Exception):
    """Leaves a commit undone."""


def _link(folder: Path, name: str, source: Path, intact: Callable[[Path], bool]) -> bool:
    if not source.is_file():
        return False
    try:
        with committed(folder, name) as temporary:
            link_or_copy(source, temporary)
            if not intact(temporary):  # looked at after the link: from here on nobody can exchange the bytes
                raise _NotIntactError
    except _NotIntactError:
        return False
    except StoreError:
        if source.is_file():
            raise
        return False  # its owner has removed it meanwhile
    return True


def link_tree(source: Path, target: Path, exist_ok: bool = False) -> None:
    """The files below a folder under another name. exist_ok: the target may be there. What it has already stays."""

    def link(file: str, name: str) -> None:
        if not Path(name).exists():
            link_or_copy(Path(file), Path(name))

    shutil.copytree(source, target, copy_function=link, dirs_exist_ok=exist_ok)


def link_or_copy(source: Path, target: Path) -> None:
    """Make `target` a hard link, or a copy on another file system or where the file may not be linked."""
    try:
        os.link(source.resolve(), target)  # of a symbolic link, what it leads to
    except OSError:
        _copy(source, target)


def _copy(source: Path, target: Path) -> None:
    """Copy a file. Btrfs and XFS share the blocks of both then."""
    if sys.platform == "linux":
        try:
            with source.open("rb") as old, target.open("wb") as new:
                while os.copy_file_range(old.fileno(), new.fileno(), 1 << 30):
                    pass
            return
        except OSError:  # not between these two file systems
            target.unlink(missing_ok=True)
    shutil.copyfile(source, target)
