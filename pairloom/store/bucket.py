"""The objects below an address: read, written, created, listed and removed, with patience for a server that is busy.

obstore (the Rust crate object_store) speaks to all three stores and has what a rename is on a disk: a put that
succeeds only where no object is (If-None-Match on S3, a generation on GCS). pyarrow's file systems have none, and
fsspec has one for S3 through s3fs alone, whose pins fit no set of ours. In all three an object is whole or absent.
"""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pairloom.errors import InputError, StoreError
from pairloom.store.address import BUCKETS, Address
from pairloom.store.refusals import refuse_final, said, server_errors

PAUSE_S, MOST_PAUSE_S = 0.5, 20.0  # before the second attempt, and at most, doubled in between
PATIENCE_S = 300.0  # that a server may fail, one call
PARTS = 4  # of one large object that are sent at once
PART, MOST_PARTS = 5 << 20, 9000  # bytes of such a part at least, and how many of them a server takes
AT_ONCE = {"s3": 5 << 30, "az": 5000 << 20, "gs": 5 << 40}  # bytes that one request may put
PIECE = 8 << 20  # bytes of an object that one request asks for
REMOVED_AT_ONCE = 1000
LARGE, LARGE_S = 16 << 20, 900  # bytes from which one request may take longer than others, and the seconds it may
T = TypeVar("T")


class Sink(Protocol):
    """What takes bytes, such as a file."""

    def write(self, content: bytes, /) -> int: ...


@dataclass(frozen=True)
class Stored:
    """One object: its name below the address, its size in bytes, and a tag that changes with its content."""

    name: str
    size: int
    tag: str


@dataclass(frozen=True)
class Bucket:
    """The objects below an address, by names relative to it. It can be pickled: each process has a client of its own.

    Every method raises InputError where the server refuses for good (no bucket, no right, expired credentials), and
    StoreError where it does not answer for `patience_s`.
    """

    address: Address
    patience_s: float = PATIENCE_S

    def __getstate__(self) -> dict[str, Any]:
        return {"address": self.address, "patience_s": self.patience_s}

    @cached_property
    def _client(self) -> Any:
        return self._connected(60)

    @cached_property
    def _slow_client(self) -> Any:
        return self._connected(LARGE_S)

    def _connected(self, timeout_s: int) -> Any:
        """A client. A request may take so long."""
        if self.address.scheme not in BUCKETS:
            fix = f"name one of {', '.join(f'{scheme}://' for scheme in BUCKETS)}, or a folder"
            raise InputError(f"{self.address.scheme}:// cannot be written or listed", str(self.address), fix)
        from obstore.store import AzureStore, GCSStore, S3Store

        client = {"allow_http": True, "timeout": f"{timeout_s}s", "connect_timeout": "10s"}  # http where they say so
        # A part of a large object is sent again by itself. Longer troubles are ours, since we say what we wait for.
        retries = {"max_retries": 3, "retry_timeout": timedelta(seconds=60)}
        settings: dict[str, Any] = {"client_options": client, "retry_config": retries}
        name = self.address.bucket
        try:
            if self.address.scheme == "s3":  # the server refuses a body that was torn on its way
                return S3Store(name, config={"checksum_algorithm": "SHA256"}, **settings)
            return GCSStore(name, **settings) if self.address.scheme == "gs" else AzureStore(name, **settings)
        except server_errors() as error:
            raise InputError(said(error), str(self.address), "set the account and its credentials") from error

    def key(self, name: str) -> str:
        return (self.address / name).path

    def where(self, name: str) -> str:
        return str(self.address / name)

    def read(self, name: str) -> bytes | None:
        """A whole object. None where there is none."""
        import obstore

        return self._if_there(name, lambda: obstore.get(self._client, self.key(name)).bytes().to_bytes())

    def stored(self, name: str) -> Stored | None:
        """What is known of a small object. None where there is none. The answer to HEAD would not say what is wrong."""
        import obstore

        found = self._if_there(name, lambda: obstore.get(self._client, self.key(name)).meta)
        return None if found is None else Stored(name, int(found["size"]), _tag(found["e_tag"]))

    def part(self, name: str, start: int, stop: int) -> bytes:
        """A run of an object's bytes. Raises FileNotFoundError where there is no object."""
        import obstore

        if stop <= start:
            return b""

        def get() -> bytes:
            return obstore.get_range(self._client, self.key(name), start=start, end=stop).to_bytes()

        return self._patiently(name, get)

    def size(self, name: str) -> int:
        """Bytes of an object that has any. Raises FileNotFoundError where there is no object."""
        import obstore

        def ask() -> int:
            return int(obstore.get(self._client, self.key(name), options={"range": (0, 1)}).meta["size"])

        return self._patiently(name, ask)

    def fetch(self, name: str, sink: Sink, size: int) -> None:
        """Write an object of this size to a file, in pieces. Raises FileNotFoundError where there is none."""
        for start in range(0, size, PIECE):
            sink.write(self.part(name, start, min(start + PIECE, size)))

    def bring(self, name: str, path: Path) -> bool:
        """Fetch an object into a file. Returns whether there is one."""
        found = self.stored(name)
        if found is None:
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
        try:
            with temporary.open("wb") as file:
                self.fetch(name, file, found.size)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        return True

    def put(self, name: str, content: bytes | Path) -> str:
        """Write an object, whatever was there. Returns its tag."""
        import obstore

        part = max(PART, -(-_size(content) // MOST_PARTS))

        def put() -> str:
            made = obstore.put(self._client, self.key(name), content, max_concurrency=PARTS, chunk_size=part)
            return _tag(made["e_tag"])

        return self._patiently(name, put)

    def create(self, name: str, content: bytes | Path) -> bool:
        """Write an object where none is, in one request. Returns whether it holds this content now.

        Raises StoreError where it is larger than one request may be: multipart uploads have no such condition.
        """
        from obstore.exceptions import AlreadyExistsError

        return self._on_condition(name, content, "create", AlreadyExistsError)

    def exchange(self, name: str, content: bytes | Path, version: Any) -> bool:
        """Write an object in the place of the one that `version` found. Returns whether it holds this content now.

        A reader finds the old one or the new one. Raises as `create` does.
        """
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        return self._on_condition(name, content, version, PreconditionError, AlreadyExistsError, FileNotFoundError)

    def version(self, name: str) -> Any:
        """What tells an object from those that are put in its place. Raises FileNotFoundError where there is none."""
        found = self._meta(name)
        return {key: found[key] for key in ("e_tag", "version") if found[key] is not None}  # versioned or not

    def changed(self, name: str) -> float:
        """When an object was put, in seconds since 1970 by the server's clock. Raises FileNotFoundError."""
        return float(self._meta(name)["last_modified"].timestamp())

    def _meta(self, name: str) -> Any:
        """What the server says of an object beside its bytes. The answer to HEAD would not say what is wrong."""
        import obstore

        return self._patiently(name, lambda: obstore.get(self._client, self.key(name), options={"range": (0, 1)}).meta)

    def _on_condition(self, name: str, content: bytes | Path, mode: Any, *unmet: type[Exception]) -> bool:
        import obstore

        size, most = _size(content), AT_ONCE[self.address.scheme]
        if size > most:
            raise StoreError(
                f"it has {size:,} bytes, and a server takes {most:,} in one request",
                where=self.where(name),
                fix="make smaller shards (sample.rows_per_shard, shards.shard_bytes), or work on a disk and push",
            )

        def put() -> bool:
            try:
                obstore.put(self._slow_client if size > LARGE else self._client, self.key(name), content, mode=mode)
            except unmet:
                return False
            return True

        # an answer may be lost, and the put repeated
        return self._patiently(name, put) or self.read(name) == (
            content if isinstance(content, bytes) else content.read_bytes()
        )

    def remove(self, names: Iterable[str]) -> None:
        """Remove objects. Those that are not there are gone already."""
        import obstore

        for some in batched_names(names, REMOVED_AT_ONCE):
            keys = [self.key(name) for name in some]
            self._patiently(some[0], lambda keys=keys: obstore.delete(self._client, keys))  # type: ignore[misc]

    def objects(self, below: str = "") -> list[Stored]:
        """Every object below a folder of the address, by name."""
        import obstore

        prefix = self.key(below) or None
        found = self._patiently(below, lambda: obstore.list(self._client, prefix).collect())
        start = len(self.key("")) + 1 if self.key("") else 0
        return sorted((Stored(each["path"][start:], each["size"], _tag(each["e_tag"])) for each in found), key=_name)

    def folders(self, below: str = "") -> list[str]:
        """The names of the folders directly below a folder of the address."""
        import obstore

        prefix = self.key(below) or None
        found = self._patiently(below, lambda: obstore.list_with_delimiter(self._client, prefix)["common_prefixes"])
        return sorted(each.rstrip("/").rpartition("/")[2] for each in found)

    def _if_there(self, name: str, ask: Callable[[], T]) -> T | None:
        try:
            return self._patiently(name, ask)
        except FileNotFoundError:
            return None

    def _patiently(self, name: str, ask: Callable[[], T]) -> T:
        """What the server answers, asked again while it is busy or away."""
        began, pause, attempts = time.monotonic(), PAUSE_S, 0
        while True:
            attempts += 1
            try:
                return ask()
            except FileNotFoundError as error:
                refuse_final(error, str(self.address))
                raise
            except server_errors() as error:
                refuse_final(error, str(self.address))
                if time.monotonic() - began + pause > self.patience_s:
                    raise StoreError(
                        f"the server failed for {time.monotonic() - began:.0f} s, {attempts} times: {said(error)}",
                        where=self.where(name),
                        fix="see whether it is up, and run the same command again: it resumes",
                    ) from error
                if attempts == 1:  # the client has tried a few times within a second by itself
                    wait = f"trying again for {self.patience_s:g} s"
                    print(f"{self.where(name)}: {said(error)}; {wait}", file=sys.stderr, flush=True)
            time.sleep(pause)
            pause = min(2 * pause, MOST_PAUSE_S)


def _size(content: bytes | Path) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def unique() -> bytes:
    """Content that nobody else writes."""
    return uuid.uuid4().hex.encode()


def batched_names(names: Iterable[str], most: int) -> Iterator[list[str]]:
    """The names, so many at a time."""
    rest = list(names)
    yield from (rest[start : start + most] for start in range(0, len(rest), most))


def _tag(given: str | None) -> str:
    """Azure quotes a tag in the answer to a put, and not in a list."""
    return str(given).removeprefix("W/").strip('"')


def _name(stored: Stored) -> str:
    return stored.name
