"""Push a finished table to a bucket, so that a reader there never sees half of it: its manifest is the last.

A shard is held to its SHA-256 before it leaves. What a push has put there it notes in one object every few seconds,
with the tag that the store gave each file, so that one which was killed goes on where it was.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from pairloom.errors import StoreError
from pairloom.store import counts, cures, index
from pairloom.store.bucket import Bucket, Stored
from pairloom.store.folder import ASIDE, COMPANIONS, MANIFEST, Entry, Folder, placed
from pairloom.store.hashed import sha256_file
from pairloom.store.manifest import file_of
from pairloom.store.remote_tables import Published, described, published
from pairloom.store.verify import folders_of

LOG = f"{ASIDE}/.pushed.json"  # of a push that has not ended: what is there already
NOTED_EVERY_S = 5.0
JOBS = 16  # files on their way at once
Advance = Callable[[int], object]
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Copied:
    """What was done for one table."""

    table: str
    shards: int
    bytes: int
    sent: int  # files that were copied now, the others were there


@dataclass(frozen=True)
class Sent:
    """A file of a table, its name there and where it is here; of a shard also what the manifest says."""

    name: str
    file: Path
    entry: Entry | None = None


@dataclass
class Log:
    """What lies in the bucket already: of each file its SHA-256 and the tag that the store gave it."""

    table: Bucket
    known: dict[str, list[str]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _written_s: float = field(default_factory=time.monotonic)

    @classmethod
    def open(cls, table: Bucket) -> Log:
        content = table.read(LOG)
        return cls(table, json.loads(content) if content else {})

    def note(self, name: str, sha256: str, tag: str) -> None:
        with self._lock:
            self.known[name] = [sha256, tag]
            if time.monotonic() - self._written_s >= NOTED_EVERY_S:
                self.write()

    def write(self) -> None:
        self.table.put(LOG, json.dumps(self.known).encode())
        self._written_s = time.monotonic()


def finished_below(path: Path) -> list[Folder]:
    """The tables at or below a path. Raises StoreError if there is none, or one is unfinished."""
    found = [folder for folder in folders_of(path) if not _hidden(folder.path.relative_to(path))]
    for folder in found:
        if not folder.complete:
            what = f"the table is unfinished: {len(folder.shards)} shards so far"
            raise StoreError(what, str(folder.path), cures.resume(folder.path, folder.maker))
    return found


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def is_pushed(folder: Folder, table: Bucket) -> bool:
    """Whether the address has this table, finished."""
    return published(table) == _published_here(folder)


def push(folder: Folder, table: Bucket, advance: Advance = lambda size: None, jobs: int = JOBS) -> Copied:
    """Copy one finished table to this address. What is there already stays.

    advance: called with the bytes of each shard that is there now. Raises StoreError where a shard here is not what the
    manifest says, or somebody else writes to the address meanwhile.
    """
    here, there = _published_here(folder), published(table)
    size = folder.shards.total("bytes")
    if there == here:
        advance(size)
        return Copied(table.where(""), len(folder.shards), size, 0)
    log = Log.open(table)
    stored = {one.name: one for one in table.objects()}
    if there is not None:
        log.known |= _trusted(there, stored)
        log.write()  # before the manifest goes, or a killed push would have to send all again
        table.remove([MANIFEST])
    files = list(_files(folder))

    def send(one: Sent) -> int:
        sha256, lies = _sha256(one), stored.get(one.name)
        if lies is not None and log.known.get(one.name) == [sha256, lies.tag]:
            new = 0
        else:
            log.note(one.name, sha256, table.put(one.name, one.file))
            new = 1
        advance(one.entry.bytes if one.entry else 0)
        return new

    try:
        sent = sum(in_parallel(jobs, send, files))
    finally:
        log.write()
    names = [one.name for one in files]
    _refuse_others(table, log, names)
    for name, content in here.files.items():
        table.put(name, content)
    table.remove([LOG, *_outdated(stored, {*names, *here.files})])
    return Copied(table.where(""), len(folder.shards), size, sent)


def _published_here(folder: Folder) -> Published:
    manifest = placed(folder.path, MANIFEST)
    beside = file_of(manifest)
    listing = None if beside is None else (beside, manifest.with_name(beside).read_bytes())
    return Published(manifest.read_bytes(), listing)


def _trusted(there: Published, stored: Mapping[str, Stored]) -> dict[str, list[str]]:
    """The shards of a finished table that lies there, as far as they have the bytes that its manifest says."""
    found = [(entry, stored.get(f"{entry.name}.parquet")) for entry in described(there).shards]
    return {one.name: [entry.sha256, one.tag] for entry, one in found if one is not None and one.size == entry.bytes}


def _files(folder: Folder) -> Iterator[Sent]:
    """What makes up the table, but for its manifest."""
    for entry in folder.shards:
        if entry.bytes:
            file = folder.file(entry.name)
            yield Sent(f"{entry.name}.parquet", file, entry)
            if (beside := index.path_of(file)).is_file():
                yield Sent(index.name_of(entry.name), beside)
    for name in (counts.NAME, *COMPANIONS):
        if (file := placed(folder.path, name)).is_file():
            yield Sent(name, file)


def _sha256(one: Sent) -> str:
    """Of a file here. Raises StoreError where a shard is not what the manifest says."""
    if one.entry is None:
        return sha256_file(one.file)
    index.refuse_other_bytes(one.file, one.entry.sha256)
    return one.entry.sha256


def in_parallel(jobs: int, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """The results as they come. After an error nothing that waits is begun."""
    with ThreadPoolExecutor(jobs) as pool:
        try:
            for future in as_completed([pool.submit(function, item) for item in items]):
                yield future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _refuse_others(table: Bucket, log: Log, names: Iterable[str]) -> None:
    """Raise StoreError unless each file there still is the one that was put: two may push to one address."""
    tags = {one.name: one.tag for one in table.objects()}
    for name in names:
        if tags.get(name) != log.known[name][1]:
            raise StoreError(
                f"{name} is not what was pushed: somebody else writes to this address",
                where=table.where(name),
                fix="let one push end, then run the same command again",
            )


def _outdated(stored: Iterable[str], kept: Collection[str]) -> Iterator[str]:
    """Files of an earlier table at the address that this one does not have."""
    for name in stored:
        ours = "/" not in name and name.endswith(".parquet")
        aside = name.startswith(f"{ASIDE}/") and name.endswith((index.SUFFIX, ".parquet"))
        if (ours or aside) and name not in kept:
            yield name
