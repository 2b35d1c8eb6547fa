"""Cut the URL list into the shards of table `urls`, so that lines added to the list touch no old shard."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa

from pairloom.errors import StoreError
from pairloom.store.folder import Entry, Header, is_table, open_folder, read_shard
from pairloom.store.linking import link_shard
from pairloom.store.writing import Writer, write_shard
from pairloom.table import Table
from pipeline.config import as_json
from pipeline.executor import Done
from pipeline.fingerprints import refuse_mixture
from schemas.urls import URLS
from stages.contract import Counts
from stages.sample import VERSION


def write_list(rows: pa.Table, config: Any, data: Path, redo: bool, other: Path | None = None) -> Done:
    """Write `rows` (table urls, in list order) to data/urls in shards of config.rows_per_shard rows.

    Shards that are there and equal the beginning of the list stay as they are; further rows start a new shard,
    so that all later stages work on the new shards only. other: a dataset whose list is taken over as far as it has
    the same rows, and with it where it is cut. Raises StoreError if a listed row has changed, unless redo.
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
    reused = 0
    if first < rows.num_rows or set(writer.done) != set(kept) or not writer.complete:
        writer.begin(kept)
        reused = _write(rows.slice(first), writer, config.rows_per_shard, other)
    writer.finish()
    counts, made = Counts(rows.num_rows, rows.num_rows, {}), len(writer.done) - len(kept) - reused
    return Done("sample", counts, len(writer.done), made, time.monotonic() - start, reused)


def _write(rows: pa.Table, writer: Writer, rows_per_shard: int, other: Path | None) -> int:
    """Add shards of these rows to those that are done; how many of them were the other dataset's."""
    reused = position = 0
    for entry in _continued(other, writer, rows):
        writer.record(entry)
        reused, position = reused + 1, position + entry.rows
    for start in range(position, rows.num_rows, rows_per_shard):
        writer.record(write_shard(writer.folder, f"{len(writer.done):05d}", rows.slice(start, rows_per_shard)))
    return reused


def _continued(other: Path | None, writer: Writer, rows: pa.Table) -> Iterator[Entry]:
    """The shards of the other dataset's list that follow those of the writer and hold these rows, each linked here.

    Only where both began alike: a list that has grown is cut where rows were added, and what later stages made of a
    shard can be reused only if the shard is the same.
    """
    source = other / URLS.name if other else None
    if source is None or not is_table(source):
        return
    folder, done = open_folder(source), [writer.done[name].sha256 for name in sorted(writer.done)]
    began = [entry.sha256 for entry in folder.shards[: len(done)]]
    if began != done or replace(folder.header, pairloom=writer.header.pairloom) != writer.header:
        return
    position = 0
    for entry in folder.shards[len(done) :]:
        if not link_shard(writer.folder, entry, folder.file(entry.name)):
            return
        if not _equal(read_shard(writer.folder / f"{entry.name}.parquet"), rows.slice(position, entry.rows)):
            return  # what follows is written over it, or `finish` removes it
        yield entry
        position += entry.rows


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
