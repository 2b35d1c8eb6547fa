"""A folder of training shards in the making: shards of other folders linked into it, or some of their rows written."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from pairloom.errors import StoreError
from pairloom.store import afar, index
from pairloom.store.folder import MADE_OF, Entry, Folder, Header, is_table, open_folder
from pairloom.store.linking import link_or_copy
from pairloom.store.names import shard_name
from pairloom.store.scratch import behind
from pairloom.store.writing import Writer, committed, write_index, write_shard
from pipeline.card import write_card


@dataclass(frozen=True)
class Reshaped:
    """A new folder. `linked` of its shards are the old files."""

    path: Path
    rows: int
    shards: int
    linked: int
    left_out: int = 0  # rows of images that came before


class NewFolder:
    """A folder in the making."""

    def __init__(self, out: Path, header: Header) -> None:
        self.out, self.header = out, header
        self.writer = Writer.open(out, header)
        self.counts: dict[str, int] = {}
        self.linked = 0

    def take(self, folder: Folder, entry: Entry, chosen: pa.Array) -> None:
        """These rows of the shard: a link where it stays whole, nothing where no row is left."""
        if pc.all(chosen).as_py():
            self.link(folder, entry)
        elif pc.any(chosen).as_py():
            self.write(folder.read(entry.name).filter(chosen), entry.name.partition("-")[0])

    def link(self, folder: Folder, entry: Entry) -> None:
        """The shard as it is: a hard link where the file system can, else a copy."""
        name = self._name(entry.name.partition("-")[0])
        with committed(self.out, f"{name}.parquet") as temporary:
            link_or_copy(folder.here(entry.name), temporary)
        if (old := index.path_of(folder.file(entry.name))).exists():
            with committed(self.out, index.name_of(name)) as temporary:
                link_or_copy(old, temporary)
        self.writer.record(replace(entry, name=name))
        self.linked += 1

    def write(self, table: pa.Table, split: str) -> None:
        name = self._name(split)
        entry = write_shard(self.out, name, table)
        write_index(self.out, name, entry.sha256, compared=True)
        self.writer.record(replace(entry, rows_in=entry.rows))

    def _name(self, split: str) -> str:
        number = self.counts[split] = self.counts.get(split, -1) + 1
        return shard_name(number, split)

    def told(self) -> Reshaped:
        return Reshaped(self.out, sum(e.rows for e in self.writer.done.values()), len(self.writer.done), self.linked)

    def __enter__(self) -> NewFolder:
        self.writer.begin([])
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.writer.finish()
            write_card(open_folder(self.out))
        else:
            empty(self.out)  # so that the same command can run again


def start(out: Path, header: Header, history: Mapping[str, object]) -> NewFolder:
    """A new folder of this header that remembers what it was made of. Raises StoreError if something else is there."""
    afar.refresh(out)
    if afar.holds_anything(out):
        if not is_table(out) or (unfinished := open_folder(out)).complete or unfinished.maker:
            raise StoreError("the folder is not empty", str(out), "name another with --out, or remove it first")
        empty(out)  # what a killed run left: links and copies of shards that lie elsewhere
    return NewFolder(out, replace(header, config={**header.config, MADE_OF: history}))


def empty(folder: Path) -> None:
    """Remove all that is in it, here and in the bucket behind it. Raises RunError where another run writes there."""
    if (scratch := behind(folder)) is not None:
        scratch.refuse_outdated()
        there = scratch.below(folder)
        there.remove(one.name for one in there.objects())
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
