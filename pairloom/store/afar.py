"""A table in a bucket while it is written: which shards are finished, and what goes when others are due.

On a disk the journal has a line a finished shard. A bucket has no file that grows, so whoever puts a shard leaves a
small object below MADE, and the journal lists what was finished before the run began.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pairloom.store import index
from pairloom.store.bucket import Bucket
from pairloom.store.cures import QUARANTINE
from pairloom.store.entries import Entry
from pairloom.store.folder import ASIDE, COMPANIONS, JOURNAL, MANIFEST, open_folder, origin_of
from pairloom.store.remote_tables import published, write_published

MADE = f"{ASIDE}/.made"  # objects SHARD.json
COUNTS = f"{ASIDE}/.counts"
JOBS = 32  # small objects on their way at once


def refresh(folder: Path) -> None:
    """Make a folder say of its table what the bucket says now. Nothing where no bucket lies behind it."""
    origin = origin_of(folder)
    if origin is None:
        return
    before = _entries(folder)
    (folder / ASIDE).mkdir(parents=True, exist_ok=True)
    for name in (MANIFEST, JOURNAL):
        (folder / name).unlink(missing_ok=True)
    if (journal := origin.read(JOURNAL)) is not None:
        made = [line + b"\n" for line in _finished(origin) if line is not None]
        (folder / JOURNAL).write_bytes(journal + b"".join(made))
    elif (there := published(origin)) is not None:
        write_published(folder, there)
        for name in (COUNTS, *COMPANIONS):
            origin.bring(name, folder / name)
    for entry in before - _entries(folder):  # exchanged meanwhile
        (folder / f"{entry[0]}.parquet").unlink(missing_ok=True)


def refresh_all(data: Path) -> None:
    """Have here what a bucket says of every table of a dataset, if a bucket lies behind its folder."""
    origin = origin_of(data)
    if origin is None:
        return
    found = [name for name in origin.folders() if not name.startswith((".", "_"))]
    for name in (*found, *(f"{QUARANTINE}/{one}" for one in origin.folders(QUARANTINE))):
        refresh(data / name)


def _finished(origin: Bucket) -> list[bytes | None]:
    names = [one.name for one in origin.objects(MADE)]
    with ThreadPoolExecutor(JOBS) as pool:
        return list(pool.map(origin.read, names))


def _entries(folder: Path) -> set[tuple[str, str]]:
    if not ((folder / MANIFEST).exists() or (folder / JOURNAL).exists()):
        return set()
    shards = open_folder(folder).shards
    return set(zip(shards.column("name"), shards.column("sha256"), strict=True))


def leave(folder: Path, entry: Entry) -> None:
    """Note a finished shard in the bucket behind the folder, where one lies there."""
    if (origin := origin_of(folder)) is not None:
        origin.put(f"{MADE}/{entry.name}.json", json.dumps(vars(entry)).encode())


def sizes(folder: Path) -> dict[str, int]:
    """Bytes of each shard's file, by its name, of what lies there now."""
    origin = origin_of(folder)
    if origin is not None:
        return {one.name: one.size for one in origin.objects() if one.name.endswith(".parquet")}
    # One look at the folder, and each file by its name there: by whole paths it takes a third longer.
    found, handle = dict[str, int](), os.open(folder, os.O_RDONLY)
    try:
        for name in os.listdir(handle):
            if name.endswith(".parquet"):
                facts = os.stat(name, dir_fd=handle)
                if stat.S_ISREG(facts.st_mode):
                    found[name] = facts.st_size
    finally:
        os.close(handle)
    return found


def files(folder: Path) -> list[str]:
    """The names of the files that lie directly in a folder, or in the bucket behind it."""
    origin = origin_of(folder)
    if origin is not None:
        return [one.name for one in origin.objects() if "/" not in one.name]
    return sorted(os.listdir(folder)) if folder.is_dir() else []


def holds_anything(folder: Path) -> bool:
    """Whether anything lies in a folder, or in the bucket behind it."""
    origin = origin_of(folder)
    if origin is not None:
        return bool(origin.objects())
    return folder.is_dir() and any(folder.iterdir())


def clear(origin: Bucket, shards: Iterable[str], aside: Collection[str]) -> None:
    """Remove from a table in a bucket all files of shards but these, and all of ASIDE's files of shards but those.

    shards: names without suffix. aside: names of files.
    """
    kept = {f"{name}.parquet" for name in shards}
    gone = []
    for one in origin.objects():
        place, _, name = one.name.rpartition("/")
        if not place:
            old = name not in kept and (name.endswith(".parquet") or _left(name))
        else:
            old = place == ASIDE and name not in aside and (name.endswith((index.SUFFIX, ".parquet")) or _left(name))
        if old:
            gone.append(one.name)
    origin.remove(gone)


def _left(name: str) -> bool:
    return name.startswith(".") and name.endswith(".tmp")


def begun(folder: Path, kept: Collection[str]) -> None:
    """Leave these shards of a table whose journal has just come to list them."""
    if (origin := origin_of(folder)) is not None:
        origin.remove([MANIFEST, *(one.name for one in origin.objects(MADE))])
        clear(origin, kept, {index.file_name(name) for name in kept})


def ended(folder: Path, kept: Collection[str], aside: Collection[str]) -> None:
    """Take the journal of a table away whose manifest is there, and files that belong to no shard of it."""
    if (origin := origin_of(folder)) is not None:
        origin.remove([JOURNAL, *(one.name for one in origin.objects(MADE))])
        clear(origin, kept, aside)
