"""Hold every byte of a folder's shards to its manifest, several at a time, and say how to mend what is wrong."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from pairloom.store import cures, index
from pairloom.store.folder import Entry, Folder, is_table, open_folder
from pairloom.store.hashed import sha256_file


@dataclass(frozen=True)
class Problem:
    """One file that is not what the manifest says."""

    file: str
    what: str
    fix: str


def folders_of(path: Path) -> list[Folder]:
    """The table at this path, or the tables below it. Raises StoreError if there is none."""
    below = sorted(folder for folder in path.rglob("*/") if is_table(folder)) if not is_table(path) else [path]
    return [open_folder(folder) for folder in below] or [open_folder(path)]


def verify(
    table: Folder | Path | str, advance: Callable[[int], object] = lambda size: None, workers: int | None = None
) -> list[Problem]:
    """What is wrong with a table's shards: each is read whole, and its SHA-256 compared with the manifest's.

    advance: called with the bytes of each shard after it is read. workers: threads, one a core by default, as hashing
    releases Python's lock. Raises StoreError if there is no table.
    """
    folder = table if isinstance(table, Folder) else open_folder(table)
    entries = [entry for entry in folder.shards if entry.bytes]

    def one(entry: Entry) -> Problem | None:
        found = _check(folder, entry)
        advance(entry.bytes)
        return found

    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        return [problem for problem in pool.map(one, entries) if problem is not None]


def _check(folder: Folder, entry: Entry) -> Problem | None:
    file = folder.here(entry.name)
    fix = cures.rebuild(file, folder.maker)
    if not file.is_file():
        return Problem(str(file), "the shard is missing", fix)
    if (size := file.stat().st_size) != entry.bytes:
        return Problem(str(file), f"it has {size:,} bytes, the manifest says {entry.bytes:,}", fix)
    if (digest := sha256_file(file)) != entry.sha256:
        what = f"its SHA-256 is {digest[:12]}…, the manifest says {entry.sha256[:12]}…"
        return Problem(str(file), what, fix)
    beside = index.path_of(file)
    if beside.exists() and index.read(beside, entry.sha256) is None:
        return Problem(str(beside), "the index is damaged or of other bytes", f"`pairloom shards index {folder.path}`")
    return None
