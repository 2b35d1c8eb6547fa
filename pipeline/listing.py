"""Cut the URL list into the shards of table `urls`, so that lines added to the list touch no old shard."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pyarrow as pa

from formats.lists import BadRow, Part
from formats.lists.stream import ListStream
from pairloom.errors import StoreError
from pairloom.store.folder import Entry, Header, is_table, open_folder, read_shard
from pairloom.store.linking import link_shard
from pairloom.store.writing import Writer, write_shard
from pairloom.table import Table
from pipeline.config import as_json
from pipeline.executor import Done, begin, count, record
from pipeline.fingerprints import refuse_mixture
from pipeline.progress import Progress
from schemas.quarantine import QUARANTINE
from schemas.urls import URLS
from stages.rejects import Reject, quarantine
from stages.sample import VERSION


def write_list(
    parts: Iterable[Part], config: Any, data: Path, redo: bool, other: Path | None = None, plain: bool = False
) -> Done:
    """Write the list to data/urls in shards of config.rows_per_shard rows, its bad rows to data/quarantine/sample.

    Shards that are there and equal the beginning of the list stay as they are; further rows start a new shard,
    so that all later stages work on the new shards only. One shard is in memory at a time. other: a dataset whose list
    is taken over as far as it has the same rows, and with it where it is cut. Raises StoreError if a listed row has
    changed, unless redo.
    """
    start = time.monotonic()
    target = data / URLS.name
    settings = {key: value for key, value in as_json(config).items() if key != "urls"}  # the rows say enough
    header = Header(URLS.name, URLS.version, "sample", VERSION, settings, pairloom=version("pairloom"))
    if is_table(target) and not redo:
        refuse_mixture(open_folder(target).header, header, target)
    places = Listing(target, data / "quarantine" / "sample", ListStream(parts))
    writers = Writer.open(target, header), Writer.open(places.quarantine, _of_quarantine(header))
    kept = places.unchanged(redo) if not redo or _same_settings(target, header) else []
    reused = 0
    as_before = writers[0].done == {entry.name: entry for entry in kept} and not places.rejects_differ()
    if places.stream.more() or not as_before or not writers[0].complete:
        begin(writers, [entry.name for entry in kept])
        writers[1].begin([])
        with Progress("sample", None, plain=plain) as progress:
            for entry in kept:
                record(writers, places.with_rejects(entry))
            reused = _write(places, writers, config.rows_per_shard, other, progress)
    for writer in reversed(writers):
        writer.finish()
    made = len(writers[0].done) - len(kept) - reused
    return Done("sample", count(open_folder(target)), len(writers[0].done), made, time.monotonic() - start, reused)


def _of_quarantine(header: Header) -> Header:
    return replace(header, table=QUARANTINE.name, table_version=QUARANTINE.version)


@dataclass
class Listing:
    """Where a list's tables lie, and the list, read from its beginning."""

    table: Path
    quarantine: Path
    stream: ListStream
    bad: dict[str, tuple[BadRow, ...]] = field(default_factory=dict)  # of each shard so far

    def unchanged(self, redo: bool) -> list[Entry]:
        """The first shards that still equal the list's beginning, with the counts of the list as it is now.

        Raises StoreError where a row has changed, unless redo.
        """
        kept: list[Entry] = []
        position = 0
        for entry in open_folder(self.table).shards if is_table(self.table) else ():
            stored = read_shard(self.table / f"{entry.name}.parquet")
            taken = self.stream.take(stored.num_rows)
            if not _equal(stored, taken.rows):
                if not redo:
                    raise _changed(self.table, position + _first_difference(stored, taken.rows))
                self.stream.put_back(taken)
                break
            kept.append(self.counted(entry, taken))
            position += stored.num_rows
        return kept

    def counted(self, entry: Entry, part: Part) -> Entry:
        """The entry of a shard with how many rows of the list went in and were left out; the latter are noted."""
        self.bad[entry.name] = part.bad
        rejected = {"bad-row": len(part.bad)} if part.bad else {}
        return replace(entry, rows_in=part.rows.num_rows + len(part.bad), rejected=rejected)

    def with_rejects(self, entry: Entry) -> tuple[Entry, Entry]:
        """The entry and that of its bad rows, which are written here."""
        bad = self.bad[entry.name]
        if not bad:
            (self.quarantine / f"{entry.name}.parquet").unlink(missing_ok=True)
            return entry, Entry(entry.name, rows=0, bytes=0, sha256="")
        return entry, write_shard(self.quarantine, entry.name, _rejects(bad))

    def rejects_differ(self) -> bool:
        """Whether the quarantine holds other bad rows of these shards than the list has now."""
        folder = open_folder(self.quarantine) if is_table(self.quarantine) else None
        there = {entry.name for entry in folder.shards} if folder else set()
        if there - self.bad.keys() or not {name for name, bad in self.bad.items() if bad} <= there:
            return True
        return any(folder.read(name) != _rejects(self.bad[name]) for name in there) if folder else False


def _rejects(bad: Iterable[BadRow]) -> pa.Table:
    return quarantine("sample", map(_reject, bad))


def _reject(bad: BadRow) -> Reject:
    return Reject(f"{bad.file}:{bad.number}", "bad-row", bad.said, {"line": bad.number, "text": bad.text})


def _changed(target: Path, row: int) -> StoreError:
    return StoreError(
        f"row {row} of the list (counted from 0) is not what it was",
        where=str(target),
        fix="put the row back, append new rows at the end, or add --redo to fetch the changed rows again",
    )


def _write(
    places: Listing, writers: tuple[Writer, Writer], rows_per_shard: int, other: Path | None, progress: Progress
) -> int:
    """Add shards of the rest of the list to those that are done; how many of them were the other dataset's."""
    reused = 0
    for entry in _continued(other, writers[0], places):
        record(writers, places.with_rejects(entry))
        reused += 1
    while places.stream.more():
        part = places.stream.take(rows_per_shard)
        entry = write_shard(places.table, f"{len(writers[0].done):05d}", part.rows)
        entry = places.counted(entry, part)
        record(writers, places.with_rejects(entry))
        progress.advance(entry.rows_in)
    return reused


def _continued(other: Path | None, writer: Writer, places: Listing) -> Iterator[Entry]:
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
    for entry in folder.shards[len(done) :]:
        if not link_shard(writer.folder, entry, folder.file(entry.name)):
            return
        taken = places.stream.take(entry.rows)
        if not _equal(read_shard(writer.folder / f"{entry.name}.parquet"), taken.rows):
            places.stream.put_back(taken)
            return  # what follows is written over it, or `finish` removes it
        yield places.counted(entry, taken)


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


def _first_difference(stored: pa.Table, listed: pa.Table) -> int:
    """The first row of the stored shard that the list has otherwise or not at all."""
    pairs = zip_longest(stored.to_pylist(), listed.to_pylist())
    return next(row for row, (old, new) in enumerate(pairs) if old != new)
