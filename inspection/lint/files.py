"""Lint, part 1: are a table's files the ones that its manifest lists, bit for bit, with the schema they should have?"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from inspection.lint.problem import Findings
from inspection.tables import names, table_of
from pairloom.errors import SchemaError, StoreError
from pairloom.store import counts, cures, index
from pairloom.store.folder import ASIDE, COMPANIONS, JOURNAL, MADE_OF, MANIFEST, ORIGIN, Entry, Folder, placed, rebuild
from pairloom.store.manifest import file_of

# What a shard and the manifest both say of its making.
PROVENANCE = ("table", "table_version", "stage", "stage_version", "config", "resources")


def check_files(folder: Folder, findings: Findings) -> set[str]:
    """Record what is wrong with the folder's files. Returns the names of the shards that may be read."""
    if not folder.complete:
        findings.file(
            "unfinished",
            folder.path,
            f"the table is unfinished: {len(folder.shards)} shards so far",
            cures.resume(folder.path, folder.maker),
        )
    _check_leftovers(folder, findings)
    if not _check_header(folder, findings):
        return set()
    return {entry.name for entry in folder.shards if _check_shard(folder, entry, findings)}


def _check_leftovers(folder: Folder, findings: Findings) -> None:
    shards = [entry.name for entry in folder.shards if entry.rows or entry.bytes]
    aside = {folder.path / MANIFEST, folder.path / JOURNAL, folder.path / ORIGIN}
    if folder.complete and (listing := file_of(placed(folder.path, MANIFEST))) is not None:
        aside.add(folder.path / ASIDE / listing)
    if folder.table in names() and table_of(folder.table).indexed:
        aside |= {
            *(folder.path / name for name in (*COMPANIONS, counts.NAME)),
            *(folder.path / index.name_of(name) for name in shards),
        }
    before = {folder.path / Path(name).name for name in (MANIFEST, JOURNAL, *COMPANIONS)}
    before |= {folder.path / f"{name}{index.SUFFIX}" for name in shards}
    listed = {folder.path / ASIDE, *map(folder.file, shards), *aside, *before}
    for path in sorted([*folder.path.iterdir(), *(folder.path / ASIDE).glob("*")]):
        if path not in listed:
            findings.file(
                "leftover", path, "this file is not in the manifest", "delete it; `pairloom stage` leaves none"
            )


def _check_header(folder: Folder, findings: Findings) -> bool:
    """Is it a table that this version of pairloom knows?"""
    header, manifest = folder.header, placed(folder.path, MANIFEST if folder.complete else JOURNAL)
    if header.table not in names():
        findings.file(
            "schema", manifest, f"there is no table {header.table!r}", f"it should be one of {', '.join(names())}"
        )
        return False
    if header.table_version != table_of(header.table).version:
        findings.file(
            "version",
            manifest,
            f"table {header.table} is version {header.table_version}, not {table_of(header.table).version}",
            "run the stage again with --redo, or use the pairloom that wrote it",
        )
        return False
    return True


def _check_shard(folder: Folder, entry: Entry, findings: Findings) -> bool:
    """Is the file there, unchanged, and a shard of this table?"""
    file = folder.here(entry.name)
    if not entry.rows and not entry.bytes:
        return False  # a quarantine shard with nothing in it has no file
    if not file.is_file():
        findings.file("missing", file, "the manifest lists this shard but there is no such file", rebuild(file))
        return False
    if (found := _sha256(file)) != entry.sha256:
        what = f"its SHA-256 is {found[:12]}…, the manifest says {entry.sha256[:12]}… ({_sizes(file, entry)})"
        findings.file("checksum", file, f"the file has changed since it was written: {what}", rebuild(file))
        return False  # damaged Parquet may crash its reader
    if (size := file.stat().st_size) != entry.bytes:
        what = f"it has {size:,} bytes, the manifest says {entry.bytes:,}, though their SHA-256 is the manifest's"
        findings.file("bytes", file, what, rebuild(file))
    beside = index.path_of(file)
    if beside.exists() and index.read(beside, entry.sha256) is None:
        what = "the index is damaged or of other bytes than the shard's"
        findings.file("index", beside, what, f"run `pairloom shards index {folder.path}`")
    return _check_schema(folder, entry, file, findings)


def _check_schema(folder: Folder, entry: Entry, file: Path, findings: Findings) -> bool:
    table = table_of(folder.header.table)
    try:
        with pq.ParquetFile(file) as parquet:
            rows, empty = parquet.metadata.num_rows, parquet.schema_arrow.empty_table()
        table.check(empty, where=str(file))
        metadata = folder.metadata(entry.name)
    except (SchemaError, StoreError) as error:
        findings.file("schema", file, error.args[0], error.args[2])
        return False
    except (OSError, pa.ArrowException) as error:
        findings.file("unreadable", file, f"it cannot be read as Parquet: {error}", rebuild(file))
        return False
    if rows != entry.rows:
        findings.file("rows", file, f"it has {rows:,} rows, the manifest says {entry.rows:,}", rebuild(file))
    _check_provenance(folder, file, metadata, findings)
    return True


def _check_provenance(folder: Folder, file: Path, metadata: dict[str, str], findings: Findings) -> None:
    """What the file says of its making must be what the manifest says. Old and new are never mixed."""
    made_by = json.loads(metadata.get("pairloom", "{}"))
    own = {key: getattr(folder.header, key) for key in PROVENANCE}
    makers = list(_makers(json.loads(json.dumps(own))))
    differences = [[key for key in PROVENANCE if key in made_by and made_by[key] != maker[key]] for maker in makers]
    if not all(differences):
        return
    for key in differences[0]:
        said = f"{makers[0][key]!r}{f' or {len(makers) - 1} others' if len(makers) > 1 else ''}"
        what = f"it was made with {key} {made_by[key]!r}, the manifest says {said}"
        findings.file("provenance", file, what, cures.redo(file.parent, folder.maker))


def _makers(own: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What may have made a shard of this folder: its header, or that of a folder of which `pairloom shards` made it."""
    made_of = own["config"].get(MADE_OF) if isinstance(own["config"], dict) else None
    if not isinstance(made_of, dict):
        yield own
        return
    for before in made_of["merge"] if isinstance(made_of.get("merge"), list) else [made_of.get("of")]:
        said = before if isinstance(before, dict) else {}
        yield from _makers(own | {"config": {}} | {key: said[key] for key in PROVENANCE if key in said})


def _sizes(file: Path, entry: Entry) -> str:
    size = file.stat().st_size
    return f"the same {size:,} bytes long" if size == entry.bytes else f"{size:,} bytes instead of {entry.bytes:,}"


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
