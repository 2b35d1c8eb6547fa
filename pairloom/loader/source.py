"""Where shards lie: what the loader asks of a folder, be it on this machine or (remote.py) somewhere else."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pairloom.loader.options import Options
from pairloom.machine import refuse_machine_error
from pairloom.store import counts
from pairloom.store import index as indices
from pairloom.store.address import Address, parse
from pairloom.store.counts import Counts
from pairloom.store.folder import Entry, Folder, open_folder
from pairloom.store.index import Index


class Source(Protocol):
    """A shards folder. Every method may be called from any process, and an instance can be pickled."""

    def folder(self) -> Folder:
        """The manifest. Raises StoreError if there is none."""

    def index(self, entry: Entry) -> Index: ...

    def counts(self, entries: Sequence[Entry]) -> Counts | None:
        """How many rows the row groups of these shards have, where the folder says it in one file."""

    @property
    def beside(self) -> Path:
        """Folder on this machine for what is worked out of the shards once. It can be deleted."""

    def where(self, name: str) -> str:
        """The shard's address, for messages."""

    def parquet(self, name: str) -> Any:
        """Path or file object for pyarrow."""

    def local(self, name: str, start: int, stop: int) -> tuple[Path, int]:
        """A file on this machine that holds these bytes of the shard, and the shard's position of its first byte."""

    def will_need(self, name: str, start: int, stop: int) -> None:
        """A hint that these bytes of the shard are read soon. Returns at once."""

    @property
    def copies(self) -> bool:
        """Whether what is read here is a copy, so that fetching it again may mend damage."""

    def forget(self, where: str) -> None:
        """Drop the copies of a shard that turned out damaged; where: as the error says."""


@dataclass(frozen=True)
class LocalSource:
    """A folder on this machine, or on a file system that looks like one."""

    path: Path
    _built: dict[str, Index] = field(default_factory=dict, repr=False, compare=False)  # of shards without one

    def folder(self) -> Folder:
        return open_folder(self.path)

    def index(self, entry: Entry) -> Index:
        """The index beside the shard; without one of the manifest's bytes, the shard is verified and read to make it.

        Raises StoreError where its bytes are others: then nothing in it can be trusted, its number of rows included.
        """
        shard = self.path / f"{entry.name}.parquet"
        try:
            found = indices.read(indices.path_of(shard), entry.sha256) or self._built.get(entry.name)
            if found is None:
                if not self._built:
                    said = (
                        "has no index of its bytes: such shards are read whole (`pairloom shards index` makes indices)"
                    )
                    print(f"{shard} {said}", file=sys.stderr)
                found = self._built[entry.name] = indices.build(shard, entry.sha256)
        except OSError as error:
            refuse_machine_error(error, str(shard))
            raise
        return found

    def counts(self, entries: Sequence[Entry]) -> Counts | None:
        return counts.read(self.path)

    @property
    def beside(self) -> Path:
        return self.path.absolute().parent / ".loader"  # not in the folder, which DVC and others hash

    def where(self, name: str) -> str:
        return str(self.path / f"{name}.parquet")

    def parquet(self, name: str) -> Any:
        return self.path / f"{name}.parquet"

    def local(self, name: str, start: int, stop: int) -> tuple[Path, int]:
        return self.path / f"{name}.parquet", 0

    def will_need(self, name: str, start: int, stop: int) -> None:
        advise: Callable[..., None] | None = getattr(os, "posix_fadvise", None)  # not on macOS
        if advise is None:
            return
        try:
            file = os.open(self.path / f"{name}.parquet", os.O_RDONLY)
        except FileNotFoundError:
            return  # reading the shard reports it
        try:
            advise(file, start, stop - start, os.POSIX_FADV_WILLNEED)  # the kernel reads ahead by itself
        finally:
            os.close(file)

    @property
    def copies(self) -> bool:
        return False

    def forget(self, where: str) -> None:
        return None


def open_source(shards: Path | str, options: Options = Options()) -> Source:  # noqa: B008  # frozen
    """The folder at a path, or at an address such as s3://bucket/shards, whose cache and patience the options name."""
    place = parse(shards)
    if isinstance(place, Address):
        from pairloom.loader.remote import RemoteSource  # fsspec is not needed for local shards

        return RemoteSource.open(str(place), options)
    return LocalSource(place)
