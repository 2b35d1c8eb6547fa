"""Shards at an address that fsspec knows: pieces are copied to a bounded cache, shared by the processes of a machine.

A piece is a run of bytes of one shard, most often a row group's column. It is checked for its length. Its content is
verified when it is read, as that of local shards is. A piece that turns out wrong is fetched again.
"""

from __future__ import annotations

import hashlib
import sys
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from pairloom.errors import InputError, StoreError
from pairloom.filesystems import file_system
from pairloom.loader.options import Options
from pairloom.loader.pieces import Cache
from pairloom.store import counts
from pairloom.store import index as indices
from pairloom.store.counts import Counts
from pairloom.store.folder import ASIDE, JOURNAL, MANIFEST, Entry, Folder, open_folder, sha256_of
from pairloom.store.index import Index
from pairloom.store.manifest import file_of
from pairloom.store.ranges import Ranges

CACHE = Path.home() / ".cache" / "pairloom"
PAUSE_S = 0.2  # before the second attempt. Doubled before each further one, up to MOST_PAUSE_S
MOST_PAUSE_S = 5.0
FIRST_PATIENCE_S = 10.0  # at most, with a server that has not answered yet: the address may be wrong
STALL_S = 30.0  # without an answer, after which an attempt is given up
AHEAD = 4  # pieces that a process fetches ahead at a time


@dataclass
class ProcessState:
    """What one process knows of a remote folder. It is not pickled, so a worker process starts with an empty one."""

    entries: dict[str, Entry] = field(default_factory=dict)  # by the shard's name
    keys: set[str] = field(default_factory=set)  # of the pieces that were used
    files: tuple[Any, str] | None = None  # fsspec's file system, the path in it
    fetching: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(AHEAD))


@dataclass(frozen=True)
class RemoteSource:
    """A shards folder at an address that fsspec knows: s3://, gs://, hf://, http:// …"""

    url: str
    cache: Cache
    patience_s: float
    stall_s: float = STALL_S
    _process: ProcessState = field(default_factory=ProcessState, repr=False, compare=False)

    @classmethod
    def open(cls, url: str, options: Options) -> RemoteSource:
        return cls(url.rstrip("/"), Cache(options.cache or CACHE, options.cache_bytes), options.patience_s)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_process": ProcessState()}

    def folder(self) -> Folder:
        """The manifest as it is there now. Raises StoreError where it cannot be reached."""
        own = self.cache.folder / "manifests" / hashlib.sha256(self.url.encode()).hexdigest()[:16]
        own.mkdir(parents=True, exist_ok=True)
        content = self._either(MANIFEST, Path(MANIFEST).name, min(self.patience_s, FIRST_PATIENCE_S))
        (own / MANIFEST).parent.mkdir(exist_ok=True)
        self._keep(own / MANIFEST, content)
        if (beside := file_of(own / MANIFEST)) is not None and not (own / ASIDE / beside).exists():
            name = f"{ASIDE}/{beside}"
            self._keep(own / name, self._patiently(name, partial(self._cat, name), self.patience_s))
        (own / JOURNAL).unlink(missing_ok=True)
        return open_folder(own)

    def _keep(self, path: Path, content: bytes) -> None:
        temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
        temporary.write_bytes(content)
        temporary.replace(path)

    def index(self, entry: Entry) -> Index:
        """Fetched whole. Raises StoreError if there is none: a remote shard cannot be read to make it."""
        name = indices.name_of(entry.name)
        key = f"{self.url}/{name}#{entry.sha256}"
        for _ in range(2):
            path = self.cache.piece(key, lambda: self._either(name, f"{entry.name}{indices.SUFFIX}"))
            if (found := indices.read(path, entry.sha256)) is not None:
                self._process.entries[entry.name] = entry
                return found
            self.cache.drop(key)
        raise StoreError(
            f"{name} is missing, damaged or of another shard", f"{self.url}/{name}", "run `pairloom shards index` there"
        )

    def counts(self, entries: Sequence[Entry]) -> Counts | None:
        key = f"{self.url}/{counts.NAME}#{sha256_of(entries)}"
        try:
            content = self.cache.piece(key, lambda: self._patiently(counts.NAME, partial(self._cat, counts.NAME)))
        except InputError:  # a folder of an earlier pairloom
            return None
        found = counts.parsed(content.read_bytes())
        if found is None:
            self.cache.drop(key)
        return found

    @property
    def beside(self) -> Path:
        return self.cache.folder / "loader"

    def where(self, name: str) -> str:
        return f"{self.url}/{name}.parquet"

    def parquet(self, name: str) -> Any:
        def read_range(start: int, stop: int) -> bytes:
            path, _ = self.local(name, start, stop)
            return path.read_bytes()

        return Ranges(read_range, self._entry(name).bytes)

    def local(self, name: str, start: int, stop: int) -> tuple[Path, int]:
        file = f"{name}.parquet"
        return self.cache.piece(self._key(name, start, stop), lambda: self._range(file, start, stop)), start

    def will_need(self, name: str, start: int, stop: int) -> None:
        """Fetch it in the background. An error is printed, and raised only when the bytes are read."""

        def fetch() -> None:
            with self._process.fetching:
                try:
                    self.local(name, start, stop)
                except StoreError as error:
                    print(f"reading ahead: {error.args[0]}", file=sys.stderr)
                except FileNotFoundError as error:
                    print(f"reading ahead: there is no {error}", file=sys.stderr)

        threading.Thread(target=fetch, daemon=True).start()

    @property
    def copies(self) -> bool:
        return True

    def forget(self, where: str) -> None:
        """Drop every piece of a shard that this process has used."""
        shard = where.partition(", row group")[0]
        for key in [key for key in self._process.keys if key.startswith(f"{shard}#")]:
            self.cache.drop(key)

    def _key(self, name: str, start: int, stop: int) -> str:
        key = f"{self.where(name)}#{self._entry(name).sha256}:{start}-{stop}"
        self._process.keys.add(key)
        return key

    def _entry(self, name: str) -> Entry:
        return self._process.entries[name]  # a reader asks for the index first

    def _files(self) -> tuple[Any, str]:
        if self._process.files is None:
            self._process.files = file_system(self.url)
        return self._process.files

    def _cat(self, name: str) -> bytes:
        files, path = self._files()
        content: bytes = files.cat_file(f"{path}/{name}")
        return content

    def _either(self, name: str, before: str, patience_s: float | None = None) -> bytes:
        """A whole file, or the one that pairloom 0.1.0 wrote in its place. Raises InputError where neither is."""
        for each in (name, before):
            with suppress(InputError):
                return self._patiently(each, partial(self._cat, each), patience_s)
        raise InputError("there is no such file", f"{self.url}/{name}", "check the address")

    def _range(self, name: str, start: int, stop: int) -> bytes:
        files, path = self._files()

        def read() -> bytes:
            content: bytes = files.cat_file(f"{path}/{name}", start=start, end=stop)
            if len(content) != stop - start:
                raise OSError(f"got {len(content):,} of {stop - start:,} bytes")
            return content

        try:
            return self._patiently(name, read)
        except InputError as error:  # a shard that is gone, as on a disk
            raise FileNotFoundError(f"{self.url}/{name}") from error

    def _patiently(self, name: str, read: Callable[[], bytes], patience_s: float | None = None) -> bytes:
        """What `read` gives, tried again when it fails or stalls. Raises StoreError when it keeps failing."""
        patience_s = self.patience_s if patience_s is None else patience_s
        began, pause, attempts = time.monotonic(), PAUSE_S, 0
        while True:
            attempts += 1
            found = self._attempt(name, read)
            if isinstance(found, bytes):
                return found
            if time.monotonic() - began + pause > patience_s:
                break
            if attempts == 1:
                print(f"{self.url}/{name}: {found}; trying again for {patience_s:g} s", file=sys.stderr, flush=True)
            time.sleep(pause)
            pause = min(2 * pause, MOST_PAUSE_S)
        raise StoreError(
            f"it could not be fetched in {time.monotonic() - began:.1f} s and {attempts} attempts: {found}",
            where=f"{self.url}/{name}",
            fix="see whether the server is up, then resume: what was fetched is kept. Options.patience_s waits longer",
        )

    def _attempt(self, name: str, read: Callable[[], bytes]) -> bytes | str:
        """What `read` gives, or why it gave nothing. Raises InputError where there is no such file."""
        outcome = _in_background(read)
        try:
            error = outcome.exception(timeout=self.stall_s)
        except TimeoutError:
            return f"no answer within {self.stall_s:g} s"
        if isinstance(error, FileNotFoundError):
            raise InputError("there is no such file", f"{self.url}/{name}", "check the address") from error
        return outcome.result() if error is None else f"{type(error).__name__}: {error}"


def _in_background(read: Callable[[], bytes]) -> Future[bytes]:
    """The outcome of `read`, which runs in a daemon thread: a stalled read blocks neither the caller nor the exit."""
    outcome: Future[bytes] = Future()

    def run() -> None:
        try:
            outcome.set_result(read())
        except BaseException as error:  # noqa: BLE001  # raised again where the outcome is read
            outcome.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return outcome
