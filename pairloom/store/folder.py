"""Read a table's folder: its manifest, its shards, and their checks; writing is the pipeline's."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from pairloom.errors import StoreError
from pairloom.store import cures
from pairloom.store.names import by_number
from pairloom.table import metadata

# Where everything but the shards lies in a table's folder. Programs that read a folder of Parquet files (pyarrow,
# pandas, Daft, datasets, Spark) leave out what has a name like this; Polars needs a pattern, FOLDER/*.parquet.
ASIDE = "_pairloom"
MANIFEST = f"{ASIDE}/manifest.json"  # of a finished table
JOURNAL = f"{ASIDE}/manifest.jsonl"  # of one that is being written: a header line, then a line a finished shard
MADE_OF = "made_of"  # key of a header's config: the folders that `pairloom shards` made this one of
COMPANIONS = (f"{ASIDE}/dataset.json", f"{ASIDE}/README.md")  # the card of a folder of training shards


@dataclass(frozen=True)
class Header:
    """What made the table; the same for all its shards."""

    table: str
    table_version: int
    stage: str
    stage_version: int
    config: Mapping[str, Any]
    resources: Mapping[str, str] = field(default_factory=dict)  # file name -> SHA-256
    pairloom: str = ""


@dataclass(frozen=True)
class Entry:
    """One finished shard: `rows_in` of its main input became `rows`; `rejected` counts the others by reason."""

    name: str
    rows: int
    bytes: int
    sha256: str
    fingerprint: str = ""
    rows_in: int = 0
    rejected: Mapping[str, int] = field(default_factory=dict)


T = TypeVar("T", Header, Entry)
# Of each key, what JSON may hold there.
TYPES: dict[type[Any], dict[str, type]] = {
    Header: {
        **dict.fromkeys(("table", "stage", "pairloom"), str),
        **dict.fromkeys(("table_version", "stage_version"), int),
        **dict.fromkeys(("config", "resources"), dict),
    },
    Entry: {
        **dict.fromkeys(("name", "sha256", "fingerprint"), str),
        **dict.fromkeys(("rows", "bytes", "rows_in"), int),
        "rejected": dict,
    },
}


@dataclass(frozen=True)
class Folder:
    """A table on disk, as its manifest describes it."""

    path: Path
    header: Header
    shards: tuple[Entry, ...]  # in order of their numbers
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
        return sum(entry.rows for entry in self.shards)

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


def open_folder(path: Path | str) -> Folder:
    """The table in this folder. Raises StoreError if there is none or its manifest cannot be read."""
    path = Path(path)
    finished, journal = placed(path, MANIFEST), placed(path, JOURNAL)
    if journal.exists():
        header, entries = _read_journal(journal)
        return Folder(path, header, _sorted(entries), complete=False)
    if finished.exists():
        content = _parse(finished, _text(finished))
        listed = content.pop("shards", None)
        if not isinstance(listed, list):
            raise _not_a_manifest(finished, "it lists no shards")
        entries = [_built(Entry, entry, finished) for entry in listed]
        return Folder(path, _built(Header, content, finished), _sorted(entries), complete=True)
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


def manifest_json(header: Header, shards: Sequence[Entry]) -> str:
    """The manifest of a finished table, byte for byte the same whoever wrote the shards in whatever order."""
    content = vars(header) | {"shards": [vars(entry) for entry in _sorted(shards)]}
    return json.dumps(content, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def _sorted(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    latest = {entry.name: entry for entry in entries}  # a shard that ran twice has two lines; the last counts
    return tuple(latest[name] for name in sorted(latest, key=by_number))


def _read_journal(path: Path) -> tuple[Header, list[Entry]]:
    lines = _text(path).split("\n")
    whole = lines[:-1]  # what follows the last line break was cut off by a crash
    if not whole:
        raise StoreError("the journal has no header", str(path), "delete it and run the stage again")
    header = _built(Header, _parse(path, whole[0]), path)
    return header, [_built(Entry, _parse(path, line), path) for line in whole[1:]]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise _not_a_manifest(path, str(error)) from error


def _parse(path: Path, text: str) -> dict[str, Any]:
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _not_a_manifest(path, f"it is not JSON: {error}") from error
    if not isinstance(parsed, dict):
        raise _not_a_manifest(path, f"it holds {text[:40]!r}")
    return parsed


def _built(kind: type[T], values: Any, path: Path) -> T:
    """A header or an entry of the manifest. Raises StoreError where a key is missing, unknown or of another type."""
    if not isinstance(values, dict):
        raise _not_a_manifest(path, f"an entry is {str(values)[:40]!r}")
    for key, wanted in TYPES[kind].items():
        value = values.get(key)
        if key in values and (not isinstance(value, wanted) or isinstance(value, bool)):
            raise _not_a_manifest(path, f"{key} is {str(value)[:40]!r}")
    for reason, rows in values.get("rejected", {}).items():
        if not isinstance(rows, int):
            raise _not_a_manifest(path, f"rejected has {str(rows)[:40]!r} rows of {reason}")
    try:
        return kind(**values)
    except TypeError as error:
        raise _not_a_manifest(path, str(error).partition(") ")[2] or str(error)) from error


def _not_a_manifest(path: Path, said: str) -> StoreError:
    fix = "delete it and run the stage again; if a later pairloom wrote it, use that one"
    return StoreError(f"the manifest cannot be read: {said}", str(path), fix)
