"""Decide which shards are due: a shard's fingerprint covers all that its bytes depend on."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pairloom.errors import ConfigError, StoreError
from pairloom.store.afar import sizes
from pairloom.store.folder import Folder, Header
from pairloom.store.hashed import sha256_file
from stages.contract import Scope, Window


def digest(content: Any) -> str:
    """SHA-256 of JSON content, independent of key order."""
    return hashlib.sha256(_json(content).encode()).hexdigest()


NO_ESCAPES = re.compile(r"[ !#-\[\]-~]*")  # what JSON writes as it is
_json = json.JSONEncoder(sort_keys=True, ensure_ascii=False).encode


def resource_hashes(files: Sequence[Path]) -> dict[str, str]:
    """file name -> SHA-256 of each file outside the tables that decides a result."""
    for file in files:
        if not file.is_file():
            raise ConfigError("this file is missing", str(file), "put it there, or name another in params.yaml")
    names = [file.name for file in files]
    return {(file.name if names.count(file.name) == 1 else str(file)): sha256_file(file) for file in files}


def shard_fingerprint(header: Header, sources: Any) -> str:
    """sources: the hashes of the input shards (or, where shards are cut anew, what they hold)."""
    return shard_fingerprints(header, {"": sources})[""]


def shard_fingerprints(header: Header, sources: Mapping[str, Any]) -> dict[str, str]:
    """The fingerprint of each shard. What they share is written as JSON and hashed once."""
    made_by = (header.table, header.table_version, header.stage, header.stage_version)
    shared = hashlib.sha256(_json([made_by, dict(header.config), dict(header.resources)])[:-1].encode())
    listed = _texts if _without_escapes(sources.values()) else _json
    found = {}
    for name, own in sources.items():
        whole = shared.copy()
        whole.update(f", {listed(own)}]".encode())
        found[name] = whole.hexdigest()
    return found


def _without_escapes(sources: Collection[Any]) -> bool:
    """Whether each is a list of texts that JSON writes as they are, such as names and hashes."""
    if not set(map(type, sources)) <= {list, tuple} or not all(sources):
        return False
    try:
        return all(map(NO_ESCAPES.fullmatch, map("".join, sources)))
    except TypeError:  # something else than texts
        return False


def _texts(own: Sequence[str]) -> str:
    """JSON of such a list, in a tenth of the time."""
    return '["' + '", "'.join(own) + '"]'


def scoped_sources(inputs: Sequence[Folder], scope: Scope) -> Mapping[str, Sequence[str]]:
    """Output shard name -> hashes of the input shards that it depends on, for a stage of this scope."""
    columns = [folder.shards.column("sha256") for folder in inputs]
    owns = dict(zip(inputs[0].shards.column("name"), zip(*columns, strict=True), strict=True))
    if scope == "shard":
        return owns
    if scope == "all":
        whole = digest(columns)
        return {name: [*own, whole] for name, own in owns.items()}
    shared: list[str] = []
    sources = {}
    for name, own in owns.items():
        shared = [digest([*shared, *own])]  # a chain: stands for this shard and all before it
        sources[name] = shared
    return sources


def windowed_sources(inputs: Sequence[Folder], windows: Sequence[Window]) -> Iterator[tuple[Window, str, list[str]]]:
    """(window, output shard, what this depends on): its name, its window, and the input shards there."""
    hashes = [dict(zip(folder.shards.column("name"), folder.shards.column("sha256"), strict=True)) for folder in inputs]
    for window in windows:
        whole = digest([asdict(window), [[known[name] for name in window.shards] for known in hashes]])
        yield from ((window, name, [name, whole]) for name, _ in window.parts)


def due(made: Mapping[str, tuple[str, int]], fingerprints: Mapping[str, str], folder: Path) -> list[str]:
    """The shards that are missing, or that something else was made from. made: as `Writer.made`."""
    there = map(sizes(folder).get, map("{}.parquet".format, fingerprints))
    wanted = zip(fingerprints.values(), there, strict=True)
    return [
        name for name, own, one in zip(fingerprints, map(made.get, fingerprints), wanted, strict=True) if own != one
    ]


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
