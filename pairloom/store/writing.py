"""Write a table's folder: shards by temporary name, fsync and rename, then a line in the journal.

A reader can never see half a shard, and a crash at any moment loses at most the shards in work.
Workers call `write_shard`. Only the coordinating process holds a `Writer` and touches the manifest.
"""

from __future__ import annotations

import fcntl
import json
import os
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pairloom.errors import StoreError
from pairloom.store import afar, counts, index
from pairloom.store.entries import Shards
from pairloom.store.folder import ASIDE, JOURNAL, MANIFEST, ORIGIN, Entry, Header, make_room, open_folder, placed
from pairloom.store.hashed import HashedFile
from pairloom.store.lease import leased
from pairloom.store.lease import run_of as holder_of
from pairloom.store.manifest import file_of, manifest_files
from pairloom.store.scratch import behind

SHARD = ".parquet"
ROW_GROUP_BYTES = 24 << 20  # 16–32 MB suit both scanning and shuffled reading
DICTIONARY = ("licence", "source", "format", "split", "stage", "reason")  # few distinct values, blobs never


def write_shard(folder: Path, name: str, table: pa.Table, row_group_bytes: int = ROW_GROUP_BYTES) -> Entry:
    """Write one shard so that it is whole or absent. The entry still lacks what the executor knows.

    Raises StoreError when the disk is full or the folder cannot be written.
    """
    with committed(folder, f"{name}.parquet") as temporary, HashedFile(temporary) as file:
        _write_parquet(table, file, row_group_bytes)
    return Entry(name=name, rows=table.num_rows, bytes=file.bytes, sha256=file.sha256)


def write_index(folder: Path, name: str, sha256: str, compared: bool = False) -> None:
    """Index a shard that lies in the folder, as index.build does. Raises StoreError if it is damaged."""
    built = index.build(folder / f"{name}.parquet", sha256, compared)
    with committed(folder, index.name_of(name)) as temporary, temporary.open("wb") as file:
        index.write(built, file)


def write_counts(folder: Path, entries: Sequence[Entry]) -> None:
    """Count the rows of these shards in one file, where all of them have an index."""
    content = counts.made(folder, entries)
    if content is not None:
        with committed(folder, counts.NAME) as temporary:
            temporary.write_bytes(content)


@contextmanager
def committed(folder: Path, name: str) -> Iterator[Path]:
    """A temporary file that gets its name, and reaches the disk, when the block ends without an error.

    Where a bucket lies behind the folder, its content reaches that first, and shards that came before make room here.
    """
    file = folder / name
    temporary = file.parent / f".{file.name}.{uuid.uuid4().hex}.tmp"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            _sync(temporary)
            scratch = behind(folder)
            if scratch is not None:
                scratch.deliver(temporary, file)
            temporary.replace(file)
        finally:
            temporary.unlink(missing_ok=True)
        if scratch is not None and name.endswith(SHARD) and file.parent == folder:
            make_room(file)
        _sync(file.parent)  # so that the rename itself survives a power cut
    except OSError as error:
        raise StoreError(
            f"{file.name} could not be written: {error.strerror or error}",
            where=str(file),
            fix="free some space or name another folder, and run the same command again; finished shards are kept",
        ) from error


def _write_parquet(table: pa.Table, sink: object, row_group_bytes: int) -> None:
    leaves = list(_leaves(table.schema))
    rows = max(1, table.num_rows * row_group_bytes // max(table.nbytes, 1))
    pq.write_table(
        table,
        sink,
        row_group_size=min(rows, max(table.num_rows, 1)),
        # JPEG and float16 blobs don't shrink. Compressing them only costs (measured in docs/explanation/design.md)
        compression={path: "NONE" if pa.types.is_large_binary(kind) else "ZSTD" for path, kind in leaves},
        use_dictionary=[path for path, _ in leaves if path in DICTIONARY],
        # no reader skips row groups by what is in a list of lists, and finding the least of a million texts costs
        write_statistics=[p for p, kind in leaves if not pa.types.is_large_binary(kind) and p.count(".list.") < 2],
        write_page_checksum=True,
        version="2.6",
        data_page_size=1 << 20,
    )


def _leaves(schema: pa.Schema) -> Iterable[tuple[str, pa.DataType]]:
    """Parquet's path of each primitive column, and its type."""
    for column in schema:
        yield from _leaves_of(column.name, column.type)


def _leaves_of(path: str, kind: pa.DataType) -> Iterable[tuple[str, pa.DataType]]:
    if pa.types.is_struct(kind):
        for column in kind:
            yield from _leaves_of(f"{path}.{column.name}", column.type)
    elif pa.types.is_map(kind):
        yield from _leaves_of(f"{path}.key_value.key", kind.key_type)
        yield from _leaves_of(f"{path}.key_value.value", kind.item_type)
    elif pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind) or pa.types.is_large_list(kind):
        yield from _leaves_of(f"{path}.list.element", kind.value_type)
    else:
        yield path, kind


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@dataclass
class Writer:
    """The manifest of a table in work: what is done already, a line for each shard that follows, and the end."""

    folder: Path
    header: Header
    _known: Shards  # when it was opened
    as_read: Header | None = None  # of the manifest that lists just these shards, as long as it does
    _done: dict[str, Entry] | None = None  # made when it is first asked for: most runs look at none of many entries

    @classmethod
    def open(cls, folder: Path, header: Header) -> Writer:
        """Go on with the folder's shards, all of which stay until `record` or `finish` says otherwise."""
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / ORIGIN).exists():
            place = (folder / ORIGIN).read_text(encoding="utf-8")
            raise StoreError(f"the folder stands for {place}", str(folder), "name the address to write there")
        try:
            known = open_folder(folder)
        except StoreError:
            known = None
        _remove_leftovers(folder)
        as_read = known.header if known and known.complete else None
        return cls(folder, header, known.shards if known else Shards([]), as_read)

    @property
    def done(self) -> dict[str, Entry]:
        """The shards so far by name."""
        if self._done is None:
            self._done = dict(zip(self._known.column("name"), self._known, strict=True))
        return self._done

    @done.setter
    def done(self, done: dict[str, Entry]) -> None:
        self._done = done

    @property
    def names(self) -> list[str]:
        """Of the shards so far."""
        return self._known.column("name") if self._done is None else list(self._done)

    def made(self) -> dict[str, tuple[str, int]]:
        """name -> fingerprint and bytes of each shard so far."""
        if self._done is not None:
            return {name: (entry.fingerprint, entry.bytes) for name, entry in self._done.items()}
        facts = zip(self._known.column("fingerprint"), self._known.column("bytes"), strict=True)
        return dict(zip(self._known.column("name"), facts, strict=True))

    @property
    def complete(self) -> bool:
        return placed(self.folder, MANIFEST).exists() and not placed(self.folder, JOURNAL).exists()

    def begin(self, keep: Iterable[str]) -> None:
        """From here on the table is incomplete: it holds only the shards in `keep` until `record` adds others."""
        self.as_read, self.done = None, {name: self.done[name] for name in keep}
        lines = [json.dumps(vars(self.header)), *(json.dumps(vars(entry)) for entry in self.done.values())]
        replace_text(self.folder / JOURNAL, "\n".join(lines) + "\n")
        (self.folder / MANIFEST).unlink(missing_ok=True)
        afar.begun(self.folder, self.done)
        self._remove_old_layout(os.listdir(self.folder))

    def record(self, entry: Entry, left: bool = False) -> None:
        """Note a shard that lies on disk. left: whoever put it into a bucket has noted it there."""
        self.as_read = None
        self.done[entry.name] = entry
        if not left:
            afar.leave(self.folder, entry)
        with (self.folder / JOURNAL).open("a", encoding="utf-8") as file:
            file.write(json.dumps(vars(entry)) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def finish(self) -> None:
        """Write the manifest and remove files that belong to no shard of it, such as a killed worker's half of one.

        Raises StoreError where a bucket has not all shards by then.
        """
        self._refuse_incomplete_bucket()
        beside: dict[str, bytes] = {}
        if self.as_read != self.header or placed(self.folder, MANIFEST) != self.folder / MANIFEST:
            text, beside = manifest_files(self.header, self.done.values())
            for name, content in beside.items():
                with committed(self.folder / ASIDE, name) as temporary:
                    temporary.write_bytes(content)
            if not (self.folder / MANIFEST).exists() or (self.folder / MANIFEST).read_text(encoding="utf-8") != text:
                replace_text(self.folder / MANIFEST, text)
        (self.folder / JOURNAL).unlink(missing_ok=True)
        kept = {f"{name}{SHARD}" for name in self.names}
        others = set(os.listdir(self.folder)) - kept  # names alone are looked at: there may be a million that stay
        self._remove_old_layout(others)
        there, aside = set(os.listdir(self.folder / ASIDE)), {file_of(self.folder / MANIFEST) or ""}
        if behind(self.folder) is not None or any(map(_is_index, there)):  # most tables have none
            aside.update(map(index.file_name, self.names))
        afar.ended(self.folder, self.names, aside)
        _remove(self.folder, (name for name in others if _is_leftover(name) or name.endswith(SHARD)))
        old = (name for name in there - aside if _is_leftover(name) or name.endswith((index.SUFFIX, SHARD)))
        _remove(self.folder / ASIDE, old)
        if any(map(_is_index, there & aside)):
            write_counts(self.folder, list(self.done.values()))
        for changed in (self.folder / ASIDE, self.folder):
            _sync(changed)

    def _refuse_incomplete_bucket(self) -> None:
        scratch = behind(self.folder)
        if scratch is None:
            return
        scratch.refuse_outdated()
        there = afar.sizes(self.folder)
        for name, (_, size) in self.made().items():
            found = there.get(f"{name}{SHARD}", 0)
            if found != size:
                raise StoreError(
                    f"shard {name} was written with {size:,} bytes, and in the bucket it has {found:,}",
                    where=str(self.folder / f"{name}{SHARD}"),
                    fix="run the same command again: it makes that shard",
                )

    def _remove_old_layout(self, names: Iterable[str]) -> None:
        """Of what pairloom 0.1.0 wrote beside the shards. Indices are moved. names: of the folder's files."""
        for name in (MANIFEST, JOURNAL):
            (self.folder / Path(name).name).unlink(missing_ok=True)
        for name in names:
            if name.endswith(index.SUFFIX):
                (self.folder / name).replace(self.folder / index.name_of(name.removesuffix(index.SUFFIX)))


def _remove_leftovers(folder: Path) -> None:
    for place in (folder, folder / ASIDE):
        if place.is_dir():
            _remove(place, filter(_is_leftover, os.listdir(place)))


def _is_leftover(name: str) -> bool:
    return name[0] == "." and name.endswith(".tmp")


def _is_index(name: str) -> bool:
    return name.endswith(index.SUFFIX)


def _remove(folder: Path, names: Iterable[str]) -> None:
    for name in names:
        (folder / name).unlink()


@contextmanager
def only_writer(data: Path, stage: str) -> Iterator[None]:
    """Hold the right to write this stage's tables. Raises StoreError if another process has it. A dead one has not.

    Meanwhile the lock's file names this run: see `run_of`. In a bucket a lease is the lock.
    """
    if (scratch := behind(data)) is not None:
        with leased(scratch.bucket, stage) as run:
            replace(scratch, stage=stage, run=run).write_mark()
            yield
        return
    path = data / ".locks" / stage
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:  # whoever does not get the lock changes nothing
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoreError(
                f"another process is running stage {stage} on this dataset", str(data), "wait for it or stop it"
            ) from error
        file.truncate(0)
        file.write(uuid.uuid4().hex)
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def run_of(data: Path, stage: str) -> str:
    """The name of the run that holds the right to write this stage's tables. "" if none does."""
    if (scratch := behind(data)) is not None:
        return holder_of(scratch.bucket, stage)
    path = data / ".locks" / stage
    return path.read_text(encoding="utf-8") if path.exists() else ""


def replace_text(path: Path, text: str) -> None:
    """Write a small file so that a reader sees the old one or the new one, whole."""
    with committed(path.parent, path.name) as temporary:
        temporary.write_text(text, encoding="utf-8")
