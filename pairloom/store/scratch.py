"""A folder of this machine through which a run reads and writes a dataset in a bucket.

Its root has a file MARK, which says where the dataset is and which run may write to it. What gets its name in the
folder goes to the bucket first (pairloom/store/writing.py), and a shard that is not here is read there. Names that
begin with a dot, such as `.index`, stay on this machine. Each command has a folder of its own, on every machine under
the same path: what is kept from before would have to be held to what the bucket has by then.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO

from pairloom.errors import InputError, StoreError
from pairloom.store.address import Address, in_bucket, named
from pairloom.store.bucket import PATIENCE_S, Bucket, unique
from pairloom.store.lease import LEASES, refuse_lost

MARK = ".bucket.json"
DEPTH = 6  # folders between a file and the root: .index/STAGE/FINGERPRINT/partial/SHARD/FILE
AT_ROOT = ("forgotten.txt", "sources.yaml")  # files of a dataset that stages read
HELD = ".lock"  # beside a root: locked as long as a process needs it
Mark = tuple[str, str]  # root, content of its MARK

_held: dict[Path, IO[str]] = {}  # the locks of this process


@dataclass(frozen=True)
class Scratch:
    """The folder `root`, the dataset that it stands for, and the run that holds the lease of a stage of it."""

    root: Path
    bucket: Bucket
    stage: str = ""
    run: str = ""

    def name(self, path: Path) -> str:
        """That of a file's object."""
        name = path.relative_to(self.root).as_posix()
        return "" if name == "." else name

    def below(self, folder: Path) -> Bucket:
        """The bucket at the address of a folder."""
        return bucket_at(self.bucket.address / self.name(folder), self.bucket.patience_s)

    def deliver(self, content: Path, file: Path) -> None:
        """Put a file's content where `file` stands for. A shard only where none is.

        Raises StoreError where another run has written it, RunError where this run may not write any more.
        """
        name = self.name(file)
        if name.startswith("."):
            return
        if file.suffix != ".parquet" or file.parent.name.startswith("_"):
            self.bucket.put(name, content)
        elif not self.bucket.create(name, content):
            version = self.bucket.version(name)  # of a run that was stopped, or the shard has lost a row since
            self.refuse_outdated()
            if not self.bucket.exchange(name, content, version):
                raise StoreError(
                    "another run writes this shard, too", self.bucket.where(name), "let one end, then run this again"
                )

    def refuse_outdated(self) -> None:
        """Raise RunError unless the run that this folder belongs to still holds the lease."""
        refuse_lost(self.bucket, self.stage, self.run)

    def write_mark(self) -> None:
        facts = {"address": str(self.bucket.address), "patience_s": self.bucket.patience_s}
        _write_mark(self.root, json.dumps(facts | {"stage": self.stage, "run": self.run}))


def behind(path: Path) -> Scratch | None:
    """Of a file or folder in such a folder what it stands for. None for any other path."""
    for root in [path, *path.parents][: DEPTH + 1]:
        try:
            text = (root / MARK).read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError):
            continue
        found = json.loads(text)
        bucket = bucket_at(in_bucket(found["address"]), found["patience_s"])
        return Scratch(root, bucket, found["stage"], found["run"])
    return None


def put(file: Path) -> None:
    """Copy a file to the bucket behind its folder, if one is."""
    if (found := behind(file.parent)) is not None:
        found.bucket.put(found.name(file), file)


def remove(file: Path) -> None:
    """Remove a file that may be missing, here and in the bucket behind its folder."""
    file.unlink(missing_ok=True)
    if (found := behind(file.parent)) is not None:
        found.bucket.remove([found.name(file)])


@lru_cache
def bucket_at(address: Address, patience_s: float = PATIENCE_S) -> Bucket:
    """The bucket at an address. One client a process."""
    return Bucket(address, patience_s)


@contextmanager
def opened(address: Address, patience_s: float = PATIENCE_S, writes: bool = True) -> Iterator[Path]:
    """A new folder that stands for a dataset, while the block lasts. Errors name the address in its place.

    Raises InputError where the server cannot keep two writers apart, if the block writes.
    """
    bucket = bucket_at(address, patience_s)
    if writes:
        probe(bucket)
    parent = Path(tempfile.gettempdir()) / f"pairloom-scratch-{os.getuid()}"
    root = parent / uuid.uuid4().hex / address.name
    try:
        with named(root, address):
            _take(root)
            Scratch(root, bucket).write_mark()
            _bring_root(root, bucket)
            yield root
    finally:
        _leave(root)


def probe(bucket: Bucket) -> None:
    """Raise InputError where the server writes over an object though it was told not to (If-None-Match)."""
    name = f"{LEASES}/.probe-{uuid.uuid4().hex}"
    try:
        if bucket.create(name, unique()) and not bucket.create(name, unique()):
            return
    finally:
        bucket.remove([name])
    raise InputError(
        "this server ignores `If-None-Match: *`, by which one writer sees that another was faster",
        where=str(bucket.address),
        fix="use one that keeps to it, such as AWS S3 or MinIO, or run on a disk and `pairloom push` what came out",
    )


def marks(paths: Iterable[Path]) -> tuple[Mark, ...]:
    """What a worker elsewhere needs to know of the datasets that these folders belong to."""
    roots = {found.root: None for path in paths if (found := behind(path)) is not None}
    return tuple((str(root), (root / MARK).read_text(encoding="utf-8")) for root in roots)


def attend(wanted: Iterable[Mark]) -> None:
    """Make the same folders here, if they are not here already. Raises StoreError where that cannot be done."""
    for root, text in wanted:
        path = Path(root)
        try:
            there = (path / MARK).read_text(encoding="utf-8")
        except FileNotFoundError:
            there = ""
        if there == text:
            continue
        _take(path)
        _write_mark(path, text)
        if not there and (found := behind(path)) is not None:
            _bring_root(path, found.bucket)


def _write_mark(root: Path, text: str) -> None:
    temporary = root / f".{uuid.uuid4().hex}.tmp"
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(root / MARK)


def _bring_root(root: Path, bucket: Bucket) -> None:
    for name in AT_ROOT:
        bucket.bring(name, root / name)


def _take(root: Path) -> None:
    """Make the folder, hold it as long as this process lives, and remove those that nobody holds any more."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        own = root.parent.with_name(root.parent.name + HELD)
        if own not in _held:
            _held[own] = own.open("a")
            fcntl.flock(_held[own], fcntl.LOCK_SH)
        for lock in own.parent.glob(f"*{HELD}"):
            if lock not in _held:
                _remove_unheld(lock)
    except OSError as error:
        raise StoreError(
            f"the folder for what is on its way cannot be made: {error.strerror or error}",
            where=str(root),
            fix="set TMPDIR to a folder that exists on every machine, and run the same command again",
        ) from error


def _remove_unheld(lock: Path) -> None:
    with contextlib.suppress(FileNotFoundError), lock.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        shutil.rmtree(lock.with_name(lock.name.removesuffix(HELD)), ignore_errors=True)
        lock.unlink(missing_ok=True)


def _leave(root: Path) -> None:
    lock = root.parent.with_name(root.parent.name + HELD)
    if (file := _held.pop(lock, None)) is not None:
        file.close()
    _remove_unheld(lock)
