"""Decide which shards are due: a shard's fingerprint covers all that its bytes depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pairloom.errors import ConfigError, StoreError
from pairloom.store.folder import Entry, Folder, Header
from pairloom.store.hashed import sha256_file
from stages.contract import Scope, Window


def digest(content: Any) -> str:
    """SHA-256 of JSON content, independent of key order."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def resource_hashes(files: Sequence[Path]) -> dict[str, str]:
    """file name -> SHA-256 of each file outside the tables that decides a result."""
    for file in files:
        if not file.is_file():
            raise ConfigError("this file is missing", str(file), "put it there, or name another in params.yaml")
    names = [file.name for file in files]
    return {(file.name if names.count(file.name) == 1 else str(file)): sha256_file(file) for file in files}


def shard_fingerprint(header: Header, sources: Any) -> str:
    """sources: the hashes of the input shards (or, where shards are cut anew, what they hold)."""
    made_by = (header.table, header.table_version, header.stage, header.stage_version)
    return digest([made_by, dict(header.config), dict(header.resources), sources])


def scoped_sources(inputs: Sequence[Folder], scope: Scope) -> dict[str, list[str]]:
    """Output shard name -> hashes of the input shards that it depends on, for a stage of this scope."""
    shared: list[str] = []
    whole = digest([[entry.sha256 for entry in folder.shards] for folder in inputs])
    sources = {}
    for entries in zip(*(folder.shards for folder in inputs), strict=True):
        own = [entry.sha256 for entry in entries]
        shared = [digest([*shared, *own])]  # a chain: stands for this shard and all before it
        sources[entries[0].name] = {"shard": own, "before": shared, "all": [*own, whole]}[scope]
    return sources


def windowed_sources(inputs: Sequence[Folder], windows: Sequence[Window]) -> Iterator[tuple[Window, str, list[str]]]:
    """(window, output shard, what this depends on): its name, its window, and the input shards there."""
    hashes = [{entry.name: entry.sha256 for entry in folder.shards} for folder in inputs]
    for window in windows:
        whole = digest([asdict(window), [[known[name] for name in window.shards] for known in hashes]])
        yield from ((window, name, [name, whole]) for name, _ in window.parts)


def due(done: Mapping[str, Entry], fingerprints: Mapping[str, str], folder: Path) -> list[str]:
    """The shards that are missing, or that something else was made from."""
    return [name for name, wanted in fingerprints.items() if not _is_current(done.get(name), wanted, folder)]


def _is_current(entry: Entry | None, wanted: str, folder: Path) -> bool:
    if entry is None or entry.fingerprint != wanted:
        return False
    file = folder / f"{entry.name}.parquet"
    return file.is_file() and file.stat().st_size == entry.bytes


def refuse_mixture(old: Header, new: Header, folder: Path) -> None:
    """Raise StoreError with a readable difference if the table was made by another configuration."""
    lines = [f"  {name}: {before!r} → {after!r}" for name, before, after in _differences(old, new)]
    if lines:
        raise StoreError(
            "this table was made with another configuration:\n" + "\n".join(lines),
            where=str(folder),
            fix="add --redo to make its shards again, name another folder (--data, --out), or restore the old settings",
        )


def _differences(old: Header, new: Header) -> list[tuple[str, Any, Any]]:
    before = {"table version": old.table_version, "stage version": old.stage_version, **_flat(old)}
    after = {"table version": new.table_version, "stage version": new.stage_version, **_flat(new)}
    names = sorted({*before, *after})
    return [(name, before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)]


def _flat(header: Header) -> dict[str, Any]:
    resources = {f"file {name}": value[:12] for name, value in header.resources.items()}
    return {f"{header.stage}.{name}": value for name, value in header.config.items()} | resources
