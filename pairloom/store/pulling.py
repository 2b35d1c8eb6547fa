"""Pull a finished table from a bucket: each shard is held to the manifest's SHA-256 as it comes.

The folder is written as a stage writes it: a line in its journal for each shard, the manifest last. So a pull that was
killed goes on where it was, and nobody takes half of a table for a whole one.
"""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path
from typing import BinaryIO

from pairloom.errors import StoreError
from pairloom.store import counts, index
from pairloom.store.bucket import Bucket
from pairloom.store.folder import COMPANIONS, MANIFEST, Entry, Folder, open_folder
from pairloom.store.pushing import JOBS, Advance, Copied, in_parallel
from pairloom.store.remote_tables import described, published
from pairloom.store.writing import Writer, committed


class Hashing:
    """A file that is written, and the SHA-256 of what was."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.sum = file, hashlib.sha256()

    def write(self, content: bytes) -> int:
        self.sum.update(content)
        return self.file.write(content)


def pull(table: Bucket, path: Path, advance: Advance = lambda size: None, jobs: int = JOBS) -> Copied:
    """Copy the finished table at this address to a folder. Shards that are there already stay.

    advance: called with the bytes of each shard that is here now. Raises StoreError where there is no finished table,
    the folder holds another one, or a shard in the bucket is not what its manifest says.
    """
    there = published(table)
    if there is None:
        raise StoreError("there is no finished table here", table.where(""), "name a table, or push it to its end")
    wanted = described(there)
    _refuse_other_table(path, wanted)
    writer = Writer.open(path, wanted.header)
    kept = [entry for entry in wanted.shards if _here(path, writer, entry)]
    names = {entry.name for entry in kept}
    missing = [entry for entry in wanted.shards if entry.name not in names]
    copied = Copied(table.where(""), len(wanted.shards), wanted.shards.total("bytes"), len(missing))
    if writer.complete and not missing and (path / MANIFEST).read_bytes() == there.text:
        advance(copied.bytes)
        return copied
    writer.done |= {entry.name: entry for entry in kept}
    writer.begin(names)
    advance(sum(entry.bytes for entry in kept))
    for entry in in_parallel(jobs, partial(fetch_shard, table, path), missing):
        writer.record(entry)
        advance(entry.bytes)
    for name in (counts.NAME, *COMPANIONS):
        if (content := table.read(name)) is not None:
            _write(path, name, content)
    writer.finish()
    for name, content in there.files.items():  # another pairloom may have spelt them otherwise
        if not (path / name).exists() or (path / name).read_bytes() != content:
            _write(path, name, content)
    return copied


def _refuse_other_table(path: Path, wanted: Folder) -> None:
    try:
        there = open_folder(path)
    except StoreError:
        return
    if (there.table, there.header.stage) != (wanted.table, wanted.header.stage):
        raise StoreError(
            f"the folder holds the table {there.table} of stage {there.header.stage}, not {wanted.table}",
            where=str(path),
            fix="name another folder",
        )


def _here(path: Path, writer: Writer, entry: Entry) -> bool:
    """Whether the folder has this shard: its journal or manifest says so, and the file has the size."""
    known = writer.done.get(entry.name)
    if known is None or (known.sha256, known.bytes) != (entry.sha256, entry.bytes):
        return False
    file = path / f"{entry.name}.parquet"
    return not entry.bytes or (file.is_file() and file.stat().st_size == entry.bytes)


def fetch_shard(table: Bucket, path: Path, entry: Entry) -> Entry:
    """Bring one shard and its index here. Raises StoreError if it is missing, or not what the manifest says."""
    if entry.bytes:
        fetch_exactly(table, path, f"{entry.name}.parquet", entry.bytes, entry.sha256)
        if (beside := table.read(index.name_of(entry.name))) is not None:
            _write(path, index.name_of(entry.name), beside)
    return entry


class _OtherBytesError(Exception):
    """Leaves a commit undone."""


def fetch_exactly(table: Bucket, path: Path, name: str, size: int, sha256: str) -> None:
    """Bring one object here that has this size and SHA-256. Raises StoreError if it has not."""
    for last in (False, True):
        try:
            with committed(path, name) as temporary:
                _fetch(table, name, temporary, size, sha256)
            return
        except _OtherBytesError as error:
            if last:
                what = f"the bucket does not hold what the manifest says: {error}"
                raise StoreError(what, table.where(name), "push the table there again") from error


def _fetch(table: Bucket, name: str, file: Path, size: int, sha256: str) -> None:
    with file.open("wb") as stream:
        hashing = Hashing(stream)
        try:
            table.fetch(name, hashing, size)
        except FileNotFoundError as error:
            raise _OtherBytesError("there is no such object") from error
    if (found := hashing.sum.hexdigest()) != sha256:
        raise _OtherBytesError(f"its SHA-256 is {found[:12]}…, the manifest says {sha256[:12]}…")


def _write(path: Path, name: str, content: bytes) -> None:
    with committed(path, name) as temporary:
        temporary.write_bytes(content)
