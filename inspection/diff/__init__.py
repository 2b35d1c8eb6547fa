"""What differs between two tables or two datasets: settings first, then counts, then rows."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from inspection.dataset import Dataset, open_dataset
from inspection.diff.keys import key_of
from inspection.diff.rows import Found, Sides
from inspection.diff.shards import compare_shards
from inspection.diff.told import diff_text
from inspection.flow import Flow
from pairloom.errors import InputError
from pairloom.store.folder import MANIFEST, Folder, placed

__all__ = ["diff", "diff_text", "rows_to_compare"]

VOCABULARIES = ("classes", "attributes", "answers")  # keys of the metadata that hold lists of names
NAMES = 5  # of a vocabulary, given as examples


def diff(
    a: Path | str, b: Path | str, flow: Flow, tolerance: float = 0.0, advance: Callable[[int], None] = lambda _: None
) -> dict[str, Any]:
    """What differs between the tables at or below `a` and those at or below `b`, as plain JSON values.

    tolerance: numbers are equal where |a − b| ≤ tolerance · max(1, |a|, |b|). advance: told of the rows done, which
    are `rows_to_compare` in all. Tables whose manifests are equal are equal: a manifest has the SHA-256 of each shard.
    Raises StoreError if there is no table or a shard cannot be read, InputError if two single tables differ in kind.
    """
    some, others = (_opened(path, flow) for path in (a, b))
    facts: dict[str, Any] = {"a": str(a), "b": str(b), "tolerance": tolerance, "only_a": [], "only_b": []}
    pairs = _pairs(some, others)
    if some.is_root and others.is_root:
        facts["only_a"] = [name for name in _folders(some) if name not in pairs]
        facts["only_b"] = [name for name in _folders(others) if name not in pairs]
    facts["tables"] = [_table(name, *pair, flow, tolerance, advance) for name, pair in pairs.items()]
    facts["equal"] = not (facts["only_a"] or facts["only_b"]) and all(table["equal"] for table in facts["tables"])
    return facts


def rows_to_compare(a: Path | str, b: Path | str, flow: Flow) -> int:
    """Rows of both sides of all tables whose manifests differ."""
    pairs = _pairs(_opened(a, flow), _opened(b, flow))
    return sum(one.rows + other.rows for one, other in pairs.values() if not _same_manifest(one, other))


def _opened(path: Path | str, flow: Flow) -> Dataset:
    found = open_dataset(path, flow)
    for error in found.broken.values():
        raise error
    return found


def _folders(found: Dataset) -> dict[str, Folder]:
    """Every table by its name: `regions`, and `quarantine/regions` for what that stage left out."""
    return {**found.tables, **{f"quarantine/{stage}": folder for stage, folder in found.rejects.items()}}


def _pairs(some: Dataset, others: Dataset) -> dict[str, tuple[Folder, Folder]]:
    mine, theirs = _folders(some), _folders(others)
    if some.is_root != others.is_root:
        raise InputError(
            "one is a table and the other a whole dataset",
            where=f"{some.root} and {others.root}",
            fix="name two tables, such as data/curate and other/curate, or two datasets",
        )
    if not some.is_root:
        (one,), (other,) = mine.values(), theirs.values()
        if one.table != other.table:
            fix = "name two tables of one kind, or the folders of two datasets"
            raise InputError(f"one is a table of {one.table}, the other of {other.table}", str(other.path), fix)
        return {next(iter(mine)): (one, other)}
    return {name: (mine[name], theirs[name]) for name in mine if name in theirs}


def _same_manifest(one: Folder, other: Folder) -> bool:
    files = [placed(folder.path, MANIFEST) for folder in (one, other)]
    return one.complete and other.complete and files[0].read_bytes() == files[1].read_bytes()


def _table(
    name: str, one: Folder, other: Folder, flow: Flow, tolerance: float, advance: Callable[[int], None]
) -> dict[str, Any]:
    facts: dict[str, Any] = {"name": name, "table": one.table, "equal": True, "rows": [one.rows, other.rows]}
    if _same_manifest(one, other):
        return facts
    headers = (one.header, other.header)
    settings = changed_values(headers[0].config, headers[1].config)
    made_by = changed_values(
        *({k: v for k, v in vars(each).items() if k not in ("config", "pairloom")} for each in headers)
    )
    metadata_of = (_metadata(one), _metadata(other))
    types = (_types(one), _types(other))
    distinct = one.table != "quarantine" and flow.distinct(one.header.stage)
    sides = Sides(one, other, key_of(one.table, distinct), tolerance, types, metadata_of)
    with tempfile.TemporaryDirectory(prefix="pairloom-diff-") as aside:
        found = compare_shards(sides, Path(aside), advance)
    facts |= {
        "key": list(sides.key),
        "pairloom": [header.pairloom for header in headers],  # told, and no difference by itself
        "settings": settings,
        "made_by": made_by,
        "vocabularies": _vocabularies(*metadata_of),
        "metadata": changed_values(*({k: v for k, v in each.items() if k not in VOCABULARIES} for each in metadata_of)),
        "schema": sides.other_columns,
        "left_out": changed_values(one.shards.rejected(), other.shards.rejected()),
        **_told(found),
    }
    facts["complete"] = [one.complete, other.complete]
    differs = any(facts[key] for key in ("settings", "made_by", "vocabularies", "metadata", "schema", "left_out"))
    facts["equal"] = not (differs or found.differ) and one.complete == other.complete
    return facts


def _told(found: Found) -> dict[str, Any]:
    facts = {key: getattr(found, key) for key in ("changed", "moved", "only_a", "only_b", "columns", "examples")}
    facts["equal_rows"] = found.equal
    if found.boxes.images:
        facts["boxes"] = found.boxes.told()
    return facts | {name: lists.told() for name, lists in found.lists.items()}


def changed_values(some: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Key -> [its value in A, in B] where they differ. A key of a mapping inside is joined to it by a dot."""
    mine, theirs = dict(_flat(some)), dict(_flat(others))
    return {key: [mine.get(key), theirs.get(key)] for key in mine | theirs if mine.get(key) != theirs.get(key)}


def _flat(values: Mapping[str, Any], before: str = "") -> list[tuple[str, Any]]:
    items: list[tuple[str, Any]] = []
    for key, value in values.items():
        nested = isinstance(value, Mapping) and value
        items += _flat(value, f"{before}{key}.") if nested else [(f"{before}{key}", value)]
    return items


def _metadata(folder: Folder) -> dict[str, str]:
    """What the first shard's file says beside what made it. The same in every shard."""
    first = next((entry.name for entry in folder.shards if entry.rows), None)
    return {k: v for k, v in (folder.metadata(first) if first else {}).items() if k != "pairloom"}


def _types(folder: Folder) -> dict[str, Any]:
    first = next((entry.name for entry in folder.shards if entry.rows), None)
    if first is None:
        return {}
    schema = pq.read_schema(folder.here(first))
    return dict(zip(schema.names, schema.types, strict=True))


def _vocabularies(some: Mapping[str, str], others: Mapping[str, str]) -> dict[str, Any]:
    """Of each list of names that differs: how many are only here or there, and how many have another number."""
    facts = {}
    for key in VOCABULARIES:
        mine, theirs = (json.loads(side.get(key, "[]")) for side in (some, others))
        if mine != theirs:
            numbers = {name: place for place, name in enumerate(theirs)}
            lost, new = [n for n in mine if n not in numbers], sorted(set(theirs) - set(mine), key=theirs.index)
            renumbered = sum(numbers.get(name, place) != place for place, name in enumerate(mine))
            facts[key] = {
                "names": [len(mine), len(theirs)],
                "only_a": len(lost), "only_b": len(new), "renumbered": renumbered,
                "examples_a": lost[:NAMES], "examples_b": new[:NAMES],
            }  # fmt: skip
    return facts
