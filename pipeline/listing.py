"""Cut the URL list into the shards of table `urls`, so that lines added to the list touch no old shard."""

from __future__ import annotations

import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa

from pairloom.errors import StoreError
from pairloom.store.folder import Header, is_table, open_folder
from pairloom.store.writing import Writer, write_shard
from pairloom.table import Table
from pipeline.config import as_json
from pipeline.executor import Done
from pipeline.fingerprints import refuse_mixture
from schemas.urls import URLS
from stages.contract import Counts
from stages.sample import VERSION

VERSION = 1  # of `sample`: raised when the same list gives other shards


def write_list(rows: pa.Table, config: Any, data: Path, redo: bool) -> Done:
    """Write `rows` (table urls, in list order) to data/urls in shards of config.rows_per_shard rows.

    Shards that are there and equal the beginning of the list stay as they are; further rows start a new shard,
    so that all later stages work on the new shards only. Raises StoreError if a listed row has changed, unless redo.
    """
    start = time.monotonic()
    target = data / URLS.name
    settings = {key: value for key, value in as_json(config).items() if key != "urls"}  # the rows say enough
    header = Header(URLS.name, URLS.version, "sample", VERSION, settings, pairloom=version("pairloom"))
    if is_table(target) and not redo:
        refuse_mixture(open_folder(target).header, header, target)
    writer = Writer.open(target, header)
    kept, first = _unchanged(target, rows) if not redo or _same_settings(target, header) else ([], 0)
    if set(writer.done) - set(kept) and not redo:
        raise StoreError(
            f"row {_first_difference(target, rows)} of the list (counted from 0) is not what it was",
            where=str(target),
            fix="put the row back, append new rows at the end, or add --redo to fetch the changed rows again",
        )
    made = 0
    if first < rows.num_rows or set(writer.done) != set(kept) or not writer.complete:
        writer.begin(kept)
        for position in range(first, rows.num_rows, config.rows_per_shard):
            name = f"{len(kept) + made:05d}"
            writer.record(write_shard(target, name, rows.slice(position, config.rows_per_shard)))
            made += 1
    writer.finish()
    counts = Counts(rows.num_rows, rows.num_rows, {})
    return Done("sample", counts, len(kept) + made, made, time.monotonic() - start)


def write_table(rows: pa.Table, table: Table, data: Path, rows_per_shard: int) -> None:
    """Write `rows` to data/<table> in shards; the first shards that hold the same rows as before stay as they are."""
    target = data / table.name
    header = Header(table.name, table.version, table.name, 1, {"rows_per_shard": rows_per_shard})
    writer = Writer.open(target, header)
    kept, first = _unchanged(target, rows) if _same_settings(target, header) else ([], 0)
    if first == rows.num_rows and set(writer.done) == set(kept) and writer.complete:
        return
    writer.begin(kept)
    for position in range(first, rows.num_rows, rows_per_shard):
        name = f"{len(kept) + (position - first) // rows_per_shard:05d}"
        writer.record(write_shard(target, name, rows.slice(position, rows_per_shard)))
    writer.finish()


def _same_settings(target: Path, header: Header) -> bool:
    return is_table(target) and asdict(open_folder(target).header) == asdict(header)


def _unchanged(target: Path, rows: pa.Table) -> tuple[list[str], int]:
    """The first shards that still equal the list's beginning, and how many rows they hold."""
    kept: list[str] = []
    position = 0
    if is_table(target):
        for name, table in open_folder(target).tables():
            if not _equal(table, rows.slice(position, table.num_rows)):
                break
            kept.append(name)
            position += table.num_rows
    return kept, position


def _equal(stored: pa.Table, listed: pa.Table) -> bool:
    plain = stored.replace_schema_metadata(None).combine_chunks()
    return bool(plain.equals(listed.replace_schema_metadata(None).combine_chunks()))


def _first_difference(target: Path, rows: pa.Table) -> int:
    position = 0
    for _, table in open_folder(target).tables():
        listed = rows.slice(position, table.num_rows)
        for row in range(table.num_rows):
            if row >= listed.num_rows or table.slice(row, 1).to_pylist() != listed.slice(row, 1).to_pylist():
                return position + row
        position += table.num_rows
    return position
