"""Read a table's folder: its manifest, its shards, and their checks. Writing is the pipeline's."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pairloom.errors import StoreError
from pairloom.store import cures
from pairloom.store.address import Address, local, parse
from pairloom.store.bucket import Bucket
from pairloom.store.entries import Entry as Entry
from pairloom.store.entries import Header as Header
from pairloom.store.entries import Shards
from pairloom.store.manifest import manifest_json as manifest_json
from pairloom.store.manifest import read_journal, read_manifest
from pairloom.store.ranges import Ranges
from pairloom.store.scratch import behind, bucket_at
from pairloom.table import metadata

# Where everything but the shards lies in a table's folder. Programs that read a folder of Parquet files (pyarrow,
# pandas, Daft, datasets, Spark) leave out what has a name like this. Polars needs a pattern, FOLDER/*.parquet.
ASIDE = "_pairloom"
MANIFEST = f"{ASIDE}/manifest.json"  # of a finished table
JOURNAL = f"{ASIDE}/manifest.jsonl"  # of one that is being written: a header line, then a line a finished shard
MADE_OF = "made_of"  # key of a header's config: the folders that `pairloom shards` made this one of
COMPANIONS = (f"{ASIDE}/dataset.json", f"{ASIDE}/README.md")  # the card of a folder of training shards
ORIGIN = f"{ASIDE}/.address"  # in a folder that stands for an address: where the shards are (pairloom/store/mirror.py)
KEPT_BYTES = 8 << 30  # of the shards of an address that lie in the folder which stands for it
LOOKS = 16  # at such a folder while as many bytes come, since it may have a million small shards
_came: Counter[Path] = Counter()  # bytes since the last look of this process


@dataclass(frozen=True)
class Folder:
    """A table on disk, as its manifest describes it, or at an address, with its shards there until they are needed."""

    path: Path
    header: Header
    shards: Shards  # in order of their numbers
    complete: bool  # False while a stage is writing it, or after it was interrupted
    origin: Bucket | None = None  # where the shards lie, if not here

    @property
    def table(self) -> str:
        return self.header.table

    @property
    def maker(self) -> str:
        """The stage that would make this table again. "" where `pairloom shards` made it of other folders."""
        return "" if MADE_OF in self.header.config else self.header.stage

    @property
    def rows(self) -> int:
        return self.shards.total("rows")

    def file(self, name: str) -> Path:
        """Where a shard lies, or would. `here` is for who opens it."""
        return self.path / f"{name}.parquet"

    def here(self, name: str) -> Path:
        """The same. A shard of an address is fetched, with its index, as it is there. One that is missing stays so."""
        path = self.file(name)
        if self.origin is not None and not path.exists():
            self.origin.bring(path.name, path)
            if self.table == "shards":
                index = f"{ASIDE}/.{name}.index"
                self.origin.bring(index, self.path / index)
            make_room(path)
        return path

    def read(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Shard `name` with its metadata, page checksums verified. Raises StoreError if it is missing or damaged.

        Of a shard at an address only these columns are fetched.
        """
        with _AsStoreError(self.file(name)), self._open(name) as file:
            return file.read(columns=list(columns) if columns is not None else None)

    def _open(self, name: str) -> pq.ParquetFile:
        path = self.file(name)
        source: Path | Ranges = path
        if self.origin is not None and not path.exists():
            source = Ranges(partial(self.origin.part, path.name), self._bytes[name])
        return pq.ParquetFile(source, page_checksum_verification=True)

    @cached_property
    def _bytes(self) -> dict[str, int]:
        return dict(zip(self.shards.column("name"), self.shards.column("bytes"), strict=True))

    def metadata(self, name: str) -> dict[str, str]:
        """The file metadata of shard `name` (for regions: classes, attributes, feature_width …)."""
        return metadata(self.schema(name).empty_table())

    def schema(self, name: str) -> pa.Schema:
        """Columns and metadata of shard `name`. Raises StoreError if it is missing or damaged."""
        with _AsStoreError(self.file(name)), self._open(name) as file:
            return file.schema_arrow

    def tables(
        self, columns: Sequence[str] | None = None, shards: Collection[str] | None = None
    ) -> Iterator[tuple[str, pa.Table]]:
        """(name, table) of each shard in order; of these shards, if not all."""
        for entry in self.shards:
            if shards is None or entry.name in shards:
                yield entry.name, self.read(entry.name, columns)


class _AsStoreError:
    """Turns what pyarrow raises on a bad file into a StoreError that names it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, FileNotFoundError):
            raise StoreError(f"shard {self.path.name} is missing", str(self.path), rebuild(self.path)) from error
        if isinstance(error, OSError | pa.ArrowException):
            raise StoreError(f"shard is damaged: {error}", str(self.path), rebuild(self.path)) from error


def rebuild(file: Path) -> str:
    """The cure of a shard that is missing or not as its stage wrote it."""
    try:
        stage = open_folder(file.parent).maker
    except (StoreError, OSError):  # the manifest is gone or damaged as well
        stage = ""
    return cures.rebuild(file, stage)


def read_shard(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """One Parquet shard as a table, page checksums verified. Raises StoreError if it is missing or damaged."""
    with _AsStoreError(path), opened(path, columns) as file:
        return file.read(columns=list(columns) if columns is not None else None)


def opened(path: Path, columns: Sequence[str] | None) -> pq.ParquetFile:
    """A shard; of one that lies in a bucket the whole is fetched, or parts of these columns alone."""
    try:
        return pq.ParquetFile(path, page_checksum_verification=True)
    except FileNotFoundError:
        origin = origin_of(path.parent)
        if origin is None:
            raise
    if columns is not None:
        far = Ranges(partial(origin.part, path.name), origin.size(path.name))
        return pq.ParquetFile(far, pre_buffer=True, page_checksum_verification=True)
    bring(origin, path)
    return pq.ParquetFile(path, page_checksum_verification=True)


def bring(origin: Bucket, path: Path) -> None:
    """Fetch a shard into its folder, whose oldest shards make room for it."""
    origin.bring(path.name, path)
    make_room(path)


def group_sizes(path: Path) -> list[int]:
    """Rows of each row group of a shard. Raises StoreError if it is missing or damaged."""
    with _AsStoreError(path), opened(path, ()) as file:
        found = file.metadata
    return [found.row_group(number).num_rows for number in range(found.num_row_groups)]


def read_group(path: Path, group: int, columns: Sequence[str] | None = None) -> pa.Table:
    """One row group of a shard, page checksums verified. Raises StoreError if it is missing or damaged."""
    with _AsStoreError(path), opened(path, columns) as file:
        return file.read_row_group(group, columns=list(columns) if columns is not None else None)


def open_folder(path: Path | str) -> Folder:
    """The table in this folder. Raises StoreError if there is none or its manifest cannot be read."""
    path = local(path)
    finished, journal = placed(path, MANIFEST), placed(path, JOURNAL)
    if journal.exists():
        return Folder(path, *read_journal(journal), complete=False, origin=origin_of(path))
    if finished.exists():
        return Folder(path, *read_manifest(finished), complete=True, origin=origin_of(path))
    raise StoreError(
        f"there is no table here: neither {MANIFEST} nor {Path(JOURNAL).name}",
        where=str(path),
        fix="name the folder of a table, such as data/shards, or run the stage that writes it",
    )


def origin_of(path: Path) -> Bucket | None:
    """Where the shards of a table's folder lie, if not all of them here."""
    try:
        place = parse((path / ORIGIN).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        scratch = behind(path)
        return scratch.below(path) if scratch is not None else None
    return bucket_at(place) if isinstance(place, Address) else None


def make_room(kept: Path) -> None:
    """Remove the shards that came first, where there are too many of them; looked at once in many bytes."""
    _came[kept.parent] += _size_and_time(kept)[0]
    if _came[kept.parent] < KEPT_BYTES // LOOKS:
        return
    _came[kept.parent] = 0
    found = [(*_size_and_time(file), file) for file in kept.parent.glob("*.parquet")]
    total = sum(size for size, _, _ in found)
    for size, _, file in sorted(found, key=lambda one: one[1]):
        if total > KEPT_BYTES and file != kept:
            file.unlink(missing_ok=True)
            total -= size


def _size_and_time(file: Path) -> tuple[int, int]:
    """Nothing of a file that is not there, or that another process has just removed."""
    try:
        facts = file.stat()
    except FileNotFoundError:
        return 0, 0
    return facts.st_size, facts.st_mtime_ns


def is_table(path: Path) -> bool:
    return placed(path, MANIFEST).exists() or placed(path, JOURNAL).exists()


def placed(folder: Path, name: str) -> Path:
    """Where a table has this file of ASIDE. Pairloom 0.1.0 wrote it beside the shards."""
    now, before = folder / name, folder / Path(name).name
    return before if folder.name != ASIDE and before.exists() and not now.exists() else now


def sha256_of(shards: Iterable[Entry]) -> str:
    """One SHA-256, in hex, for all of these shards in their order."""
    return hashlib.sha256("".join(entry.sha256 for entry in shards).encode()).hexdigest()
