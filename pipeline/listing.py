"""Cut the URL list into the shards of table `urls`, so that lines added to the list touch no old shard."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa

from formats.lists import Part
from formats.lists.stream import ListStream
from formats.lists.uniting import united_in_segments
from pairloom.store import afar, tombstones
from pairloom.store.folder import Entry, Header, is_table, open_folder, read_shard
from pairloom.store.linking import link_shard
from pairloom.store.names import by_number, shard_name
from pairloom.store.tombstones import refuse_half_forgotten
from pairloom.store.writing import Writer, only_writer, write_shard
from pairloom.table import Table
from pipeline.config import as_json
from pipeline.executor import Done, begin, count, record
from pipeline.fingerprints import refuse_mixture
from pipeline.forgotten import Remembered
from pipeline.list_shards import Listing, equal_rows
from pipeline.planning import of_quarantine
from pipeline.progress import Progress
from schemas.urls import URLS
from stages.sample import VERSION

OF_ROWS = ("urls", "format")  # settings of which the rows say enough
MANY_SHARDS, FEW_ROWS = 1_000, 1_000  # so many shards of fewer rows than this: each file costs every later stage
LIST_ROWS = "list_rows"  # in the manifest: how many rows the list had after each run that added some


def write_list(
    parts: Iterable[Part], config: Any, data: Path, redo: bool, other: Path | None = None, plain: bool = False
) -> Done:
    """Write the list to data/urls in shards of config.rows_per_shard rows, its bad rows to data/quarantine/sample.

    Rows of one URL become one row, if config.unite says so. Shards that are there and equal the beginning of the list
    stay as they are. Further rows start a new shard, so that all later stages work on the new shards only. A further
    row of an old URL stays a row of its own. One shard is in memory at a time. other: a dataset whose list is taken
    over as far as it has the same rows, and with it where it is cut. Raises StoreError if a listed row has changed,
    unless redo.
    """
    with only_writer(data, "sample"):
        for table in (URLS.name, "quarantine/sample"):
            afar.refresh(data / table)
        return _listed(parts, config, data, redo, other, plain)


def _listed(parts: Iterable[Part], config: Any, data: Path, redo: bool, other: Path | None, plain: bool) -> Done:
    start = time.monotonic()
    target = data / URLS.name
    settings = {key: value for key, value in as_json(config).items() if key not in OF_ROWS}
    header = Header(URLS.name, URLS.version, "sample", VERSION, settings, pairloom=version("pairloom"))
    if is_table(target) and not redo:
        refuse_mixture(_settings_alone(open_folder(target).header), header, target)
    same = _same_settings(target, header)
    listed = ListStream(parts)
    ends = _ends(target if same else (other or data) / URLS.name, header)
    refuse_half_forgotten(data)
    with _temporary(data) as folder:
        rows = united_in_segments(listed, ends, folder) if config.unite else listed.rest()
        remembered = Remembered(rows, tombstones.read(data))
        places = Listing(target, data / "quarantine" / "sample", ListStream(remembered))
        writers = Writer.open(target, header), Writer.open(places.quarantine, of_quarantine(header))
        kept = places.unchanged(redo) if not redo or same else []
        made, reused = _make(places, writers, kept, config.rows_per_shard, other, plain)
    ends = sorted({*(end for end in ends if end < listed.taken), listed.taken})
    writers[0].header = replace(header, config={**settings, LIST_ROWS: ends})
    for writer in reversed(writers):
        writer.finish()
    counts, summary = count(open_folder(target)), {"list_rows": listed.taken}
    summary |= {"forgotten": remembered.left_out} if remembered.left_out else {}
    return Done("sample", counts, len(writers[0].done), made, time.monotonic() - start, reused, summary)


def _ends(table: Path, header: Header) -> list[int]:
    """How many rows the list of a table with these settings had after each run. Nothing of any other table."""
    found: list[int] = open_folder(table).header.config.get(LIST_ROWS, []) if _same_settings(table, header) else []
    return found


@contextmanager
def _temporary(data: Path) -> Iterator[Path]:
    data.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".list-", dir=data) as folder:
        yield Path(folder)


def _settings_alone(header: Header) -> Header:
    return replace(header, config={key: value for key, value in header.config.items() if key != LIST_ROWS})


def _make(
    places: Listing,
    writers: tuple[Writer, Writer],
    kept: list[Entry],
    rows_per_shard: int,
    other: Path | None,
    plain: bool,
) -> tuple[int, int]:
    """Leave the table with all its shards. Returns how many were made, and taken from another dataset."""
    reused = 0
    as_before = writers[0].done == {entry.name: entry for entry in kept} and not places.rejects_differ()
    if places.stream.more() or not as_before or not writers[0].complete:
        begin(writers, [entry.name for entry in kept])
        writers[1].begin([])
        with Progress("sample", None, plain=plain) as progress:
            for entry in kept:
                record(writers, places.with_rejects(entry))
            reused = _write(places, writers, rows_per_shard, other, progress)
    return len(writers[0].done) - len(kept) - reused, reused


def _write(
    places: Listing, writers: tuple[Writer, Writer], rows_per_shard: int, other: Path | None, progress: Progress
) -> int:
    """Add shards of the rest of the list to those that are done. Returns how many were the other dataset's."""
    reused = 0
    for entry in _continued(other, writers[0], places):
        record(writers, places.with_rejects(entry))
        reused += 1
    while places.stream.more():
        part = places.stream.take(rows_per_shard)
        entry = write_shard(places.table, shard_name(len(writers[0].done)), part.rows)
        entry = places.counted(entry, part)
        record(writers, places.with_rejects(entry))
        progress.advance(entry.rows_in)
        if len(writers[0].done) == MANY_SHARDS and rows_per_shard < FEW_ROWS:
            print(_small_shards(rows_per_shard), file=sys.stderr, flush=True)
    return reused


def _small_shards(rows_per_shard: int) -> str:
    return (
        f"sample: {MANY_SHARDS:,} shards and more, of {rows_per_shard} rows each. Every stage pays for each file: "
        f"sample.rows_per_shard from 1,000 to 10,000 suits lists of this size"
    )


def _continued(other: Path | None, writer: Writer, places: Listing) -> Iterator[Entry]:
    """The shards of the other dataset's list that follow those of the writer and hold these rows, each linked here.

    Only where both began alike: a list that has grown is cut where rows were added, and what later stages made of a
    shard can be reused only if the shard is the same.
    """
    source = other / URLS.name if other else None
    if source is None or not is_table(source):
        return
    folder, done = open_folder(source), [writer.done[name].sha256 for name in sorted(writer.done, key=by_number)]
    began = [entry.sha256 for entry in folder.shards[: len(done)]]
    if began != done or replace(_settings_alone(folder.header), pairloom=writer.header.pairloom) != writer.header:
        return
    for entry in folder.shards[len(done) :]:
        if not link_shard(writer.folder, entry, folder.file(entry.name)):
            return
        taken = places.stream.take(entry.rows)
        if not equal_rows(read_shard(writer.folder / f"{entry.name}.parquet"), taken.rows):
            places.stream.put_back(taken)
            return  # what follows is written over it, or `finish` removes it
        yield places.counted(entry, taken)


def write_table(rows: pa.Table, table: Table, data: Path, rows_per_shard: int) -> None:
    """Write `rows` to data/<table> in shards. The first shards that hold the same rows as before stay as they are."""
    with only_writer(data, table.name):
        afar.refresh(data / table.name)
        _write_rows(rows, table, data / table.name, rows_per_shard)


def _write_rows(rows: pa.Table, table: Table, target: Path, rows_per_shard: int) -> None:
    header = Header(table.name, table.version, table.name, 1, {"rows_per_shard": rows_per_shard})
    writer = Writer.open(target, header)
    kept, first = _unchanged(target, rows) if _same_settings(target, header) else ([], 0)
    if first == rows.num_rows and set(writer.done) == set(kept) and writer.complete:
        return
    writer.begin(kept)
    for position in range(first, rows.num_rows, rows_per_shard):
        name = shard_name(len(kept) + (position - first) // rows_per_shard)
        writer.record(write_shard(target, name, rows.slice(position, rows_per_shard)))
    writer.finish()


def _same_settings(target: Path, header: Header) -> bool:
    return is_table(target) and asdict(_settings_alone(open_folder(target).header)) == asdict(header)


def _unchanged(target: Path, rows: pa.Table) -> tuple[list[str], int]:
    """The first shards that still equal the list's beginning, and how many rows they hold."""
    kept: list[str] = []
    position = 0
    if is_table(target):
        for name, table in open_folder(target).tables():
            if not equal_rows(table, rows.slice(position, table.num_rows)):
                break
            kept.append(name)
            position += table.num_rows
    return kept, position
