"""New folders of training shards made of old ones: merged, split, filtered, sampled; whole shards are only linked."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from pairloom.errors import ConfigError, InputError, StoreError
from pairloom.store import index
from pairloom.store.folder import Entry, Folder, Header, open_folder, sha256_of
from pairloom.store.writing import Writer, write_index, write_shard
from pipeline.card import write_card
from pipeline.progress import Progress
from schemas.shards import SHARDS

Keep = Callable[[pa.Table], pa.Array]  # small columns of a shard -> bool of each row
LIGHT = tuple(column.name for column in SHARDS.columns if column.name not in index.HEAVY)


@dataclass(frozen=True)
class Reshaped:
    """A new folder; `linked` of its shards are the old files."""

    path: Path
    rows: int
    shards: int
    linked: int


def merge(folders: Sequence[Path], out: Path) -> Reshaped:
    """All shards of several folders, numbered anew. Raises StoreError if their tables or vocabularies differ."""
    opened = [_open(folder) for folder in folders]
    for other in opened[1:]:
        _refuse_mixture(opened[0], other)
    history: dict[str, object] = {"merge": [_history(folder) for folder in opened]}
    with _new(out, opened[0].header, history) as new:
        for folder in opened:
            for entry in folder.shards:
                new.link(folder, entry)
    return new.told()


def split(folder: Path, parts: int, out: Path) -> list[Reshaped]:
    """Whole shards dealt to so many folders, each split in turn, so that all have about the same of each."""
    opened = _open(folder)
    if not 1 <= parts <= len(opened.shards):
        raise ConfigError(f"--parts is {parts}", str(folder), f"set 1 to {len(opened.shards)}, the number of shards")
    made = []
    for part in range(parts):
        with _new(out / str(part), opened.header, {"split": [part, parts], "of": _history(opened)}) as new:
            for entry in opened.shards[part::parts]:
                new.link(opened, entry)
        made.append(new.told())
    return made


def filter_rows(folder: Path, where: str, out: Path) -> Reshaped:
    """The rows for which a condition in SQL holds; a shard all of whose rows stay is linked. Needs DuckDB."""
    try:
        import duckdb
    except ImportError as error:
        raise ConfigError("filter needs DuckDB", "this environment", "install pairloom[sql]") from error

    def keep(rows: pa.Table) -> pa.Array:
        try:
            found = duckdb.from_arrow(rows).select(f"coalesce(({where}), false) AS kept").to_arrow_table()
        except duckdb.Error as error:
            what = f"the condition cannot be used: {error}"
            raise InputError(what, f"--where {where}", "README.md of the folder lists the columns") from error
        return found["kept"].cast(pa.bool_()).combine_chunks()

    return _kept(folder, keep, {"filter": where}, out)


def sample(folder: Path, share: float, seed: int, out: Path) -> Reshaped:
    """Each image with this probability, from its id and the seed alone: the same image in any folder it is in."""
    if not 0 <= share <= 1:
        raise ConfigError(f"--share is {share}", "pairloom shards sample", "set it from 0 to 1")

    def keep(rows: pa.Table) -> pa.Array:
        salt = b"sample" + seed.to_bytes(8, "little", signed=True)
        digests = [hashlib.sha256(salt + image_id).digest() for image_id in rows["image_id"].to_pylist()]
        return pa.array([int.from_bytes(digest[:8], "little") < share * 2**64 for digest in digests], pa.bool_())

    return _kept(folder, keep, {"sample": share, "seed": seed}, out)


def _kept(folder: Path, keep: Keep, how: dict[str, object], out: Path) -> Reshaped:
    opened = _open(folder)
    with _new(out, opened.header, how | {"of": _history(opened)}) as new, Progress("shards", opened.rows) as progress:
        for entry in opened.shards:
            chosen = keep(opened.read(entry.name, _known(opened, entry)))
            if pc.all(chosen).as_py():
                new.link(opened, entry)
            elif pc.any(chosen).as_py():
                new.write(opened.read(entry.name).filter(chosen), entry.name.partition("-")[0])
            progress.advance(entry.rows)
    return new.told()


def _known(folder: Folder, entry: Entry) -> list[str]:
    """The small columns that this shard has; an older one lacks some."""
    found = index.read(index.path_of(folder.file(entry.name)), entry.sha256)
    found = found or index.build(folder.file(entry.name), entry.sha256)
    return [column for column in LIGHT if column in found.facts["columns"]]


class _New:
    """A folder in the making."""

    def __init__(self, out: Path, header: Header) -> None:
        self.out, self.header = out, header
        self.writer = Writer.open(out, header)
        self.counts: dict[str, int] = {}
        self.linked = 0

    def link(self, folder: Folder, entry: Entry) -> None:
        """The shard as it is: a hard link where the file system can, else a copy."""
        name = self._name(entry.name.partition("-")[0])
        _link(folder.file(entry.name), self.out / f"{name}.parquet")
        if (old := index.path_of(folder.file(entry.name))).exists():
            _link(old, self.out / index.name_of(name))
        self.writer.record(replace(entry, name=name))
        self.linked += 1

    def write(self, table: pa.Table, split: str) -> None:
        name = self._name(split)
        entry = write_shard(self.out, name, table)
        write_index(self.out, name, entry.sha256)
        self.writer.record(replace(entry, rows_in=entry.rows))

    def _name(self, split: str) -> str:
        number = self.counts[split] = self.counts.get(split, -1) + 1
        return f"{split}-{number:05d}"

    def told(self) -> Reshaped:
        return Reshaped(self.out, sum(e.rows for e in self.writer.done.values()), len(self.writer.done), self.linked)

    def __enter__(self) -> _New:
        self.writer.begin([])
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.writer.finish()
            write_card(open_folder(self.out))


def _new(out: Path, header: Header, history: dict[str, object]) -> _New:
    if out.exists() and any(out.iterdir()):
        raise StoreError("the folder is not empty", str(out), "name another with --out, or remove it first")
    return _New(out, replace(header, config={**header.config, "made_of": history}))


def _history(folder: Folder) -> dict[str, object]:
    """What a new folder remembers of the one it was made of."""
    sums = sha256_of(folder.shards)
    return {"shards": len(folder.shards), "rows": folder.rows, "sha256": sums, "config": dict(folder.header.config)}


def _open(path: Path) -> Folder:
    folder = open_folder(path)
    if folder.table != SHARDS.name or not folder.complete:
        state = f"a table of {folder.table}" if folder.table != SHARDS.name else "unfinished"
        raise StoreError(f"it is {state}, not finished training shards", str(path), "name a folder of the stage shards")
    return folder


def _refuse_mixture(first: Folder, other: Folder) -> None:
    if first.header.table_version != other.header.table_version:
        what = f"versions {first.header.table_version} and {other.header.table_version}"
        raise StoreError(f"the folders have {what}", str(other.path), "run the stage shards again in the older one")
    if not first.shards or not other.shards:
        return
    own, others = (folder.metadata(folder.shards[0].name) for folder in (first, other))
    for key in sorted((own.keys() | others.keys()) - {"pairloom"}):
        if own.get(key) != others.get(key):
            raise StoreError(
                f"the folders differ in {key}: {str(own.get(key))[:60]} and {str(others.get(key))[:60]}",
                where=str(other.path),
                fix="mix them in the loader instead (docs/loader.md), or extract regions with the same detector",
            )


def _link(old: Path, new: Path) -> None:
    try:
        os.link(old, new)
    except OSError:  # another file system, or one without links
        shutil.copyfile(old, new)
