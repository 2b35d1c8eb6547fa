"""Read a table's folder: its manifest, its shards, and their checks; writing is the pipeline's."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pairloom.errors import StoreError
from pairloom.store import cures
from pairloom.store.entries import Entry as Entry
from pairloom.store.entries import Header as Header
from pairloom.store.entries import Shards
from pairloom.store.manifest import manifest_json as manifest_json
from pairloom.store.manifest import read_journal, read_manifest
from pairloom.table import metadata

# Where everything but the shards lies in a table's folder. Programs that read a folder of Parquet files (pyarrow,
# pandas, Daft, datasets, Spark) leave out what has a name like this; Polars needs a pattern, FOLDER/*.parquet.
ASIDE = "_pairloom"
MANIFEST = f"{ASIDE}/manifest.json"  # of a finished table
JOURNAL = f"{ASIDE}/manifest.jsonl"  # of one that is being written: a header line, then a line a finished shard
MADE_OF = "made_of"  # key of a header's config: the folders that `pairloom shards` made this one of
COMPANIONS = (f"{ASIDE}/dataset.json", f"{ASIDE}/README.md")  # the card of a folder of training shards


@dataclass(frozen=True)
class Folder:
    """A table on disk, as its manifest describes it."""

    path: Path
    header: Header
    shards: Shards  # in order of their numbers
    complete: bool  # False while a stage is writing it, or after it was interrupted

    @property
    def table(self) -> str:
        return self.header.table

    @property
    def maker(self) -> str:
        """The stage that would make this table again; "" where `pairloom shards` made it of other folders."""
        return "" if MADE_OF in self.header.config else self.header.stage

    @property
    def rows(self) -> int:
        return self.shards.total("rows")

    def file(self, name: str) -> Path:
        return self.path / f"{name}.parquet"

    def read(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Shard `name` with its metadata, page checksums verified. Raises StoreError if it is missing or damaged."""
        return read_shard(self.file(name), columns)

    def metadata(self, name: str) -> dict[str, str]:
        """The file metadata of shard `name` (for regions: classes, attributes, feature_width …)."""
        with _AsStoreError(self.file(name)):
            schema = pq.read_schema(self.file(name))
        return metadata(schema.empty_table())

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
    with _AsStoreError(path), pq.ParquetFile(path, page_checksum_verification=True) as file:
        return file.read(columns=list(columns) if columns is not None else None)


def group_sizes(path: Path) -> list[int]:
    """Rows of each row group of a shard. Raises StoreError if it is missing or damaged."""
    with _AsStoreError(path):
        found = pq.read_metadata(path)
    return [found.row_group(number).num_rows for number in range(found.num_row_groups)]


def read_group(path: Path, group: int, columns: Sequence[str] | None = None) -> pa.Table:
    """One row group of a shard, page checksums verified. Raises StoreError if it is missing or damaged."""
    with _AsStoreError(path), pq.ParquetFile(path, page_checksum_verification=True) as file:
        return file.read_row_group(group, columns=list(columns) if columns is not None else None)


def open_folder(path: Path | str) -> Folder:
    """The table in this folder. Raises StoreError if there is none or its manifest cannot be read."""
    path = Path(path)
    finished, journal = placed(path, MANIFEST), placed(path, JOURNAL)
    if journal.exists():
        return Folder(path, *read_journal(journal), complete=False)
    if finished.exists():
        return Folder(path, *read_manifest(finished), complete=True)
    raise StoreError(
        f"there is no table here: neither {MANIFEST} nor {Path(JOURNAL).name}",
        where=str(path),
        fix="name the folder of a table, such as data/shards, or run the stage that writes it",
    )


def is_table(path: Path) -> bool:
    return placed(path, MANIFEST).exists() or placed(path, JOURNAL).exists()


def placed(folder: Path, name: str) -> Path:
    """Where a table has this file of ASIDE; pairloom 0.1.0 wrote it beside the shards."""
    now, before = folder / name, folder / Path(name).name
    return before if folder.name != ASIDE and before.exists() and not now.exists() else now


def sha256_of(shards: Iterable[Entry]) -> str:
    """One SHA-256, in hex, for all of these shards in their order."""
    return hashlib.sha256("".join(entry.sha256 for entry in shards).encode()).hexdigest()
