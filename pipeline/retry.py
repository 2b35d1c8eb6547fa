"""Try failed rows of a finished table again: of a download only they are fetched, of another stage their shards made.

The shards come out as if they had been made at once.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from pairloom.errors import StoreError
from pairloom.store.folder import Entry, Folder, is_table, open_folder
from pairloom.store.tombstones import refuse_half_forgotten
from pairloom.store.writing import only_writer
from pipeline import begun
from pipeline.executor import Done, Options, begin, build_index, refresh, run_work
from pipeline.planning import open_finished, prepare
from pipeline.stage import load
from pipeline.task import Places, Task
from stages.download import finished
from stages.download.spool import Spool


@dataclass(frozen=True)
class Retried:
    """The finished stage, and how many rows were asked for again."""

    done: Done
    rows: int


def retry(made_with: Any, asking: Any, places: Places, reasons: Collection[str], options: Options) -> Retried:
    """Fetch the rows again that were left out for one of these reasons. All other rows come from the tables.

    made_with: the settings of the table, which stay those of its manifest. asking: the settings to fetch with. They may
    differ in how the web is asked (a longer timeout), not in what is stored of a picture.

    What is known of their shards is written where the stage looks for finished rows, and the shards are taken off the
    manifest. Then the stage runs as after a crash. Raises PairloomError as the stage does.
    """
    stage, start = load("download"), time.monotonic()
    options = replace(options, run=replace(options.run, reuse=None))  # it has the same failures
    refuse_half_forgotten(places.data)
    with only_writer(places.data, stage.name):
        refresh(places)
        work = prepare(stage, made_with, places, redo=False)
        work = replace(work, tasks=replace(work.tasks, blank=replace(work.tasks.blank, config=asking)))
        urls, pairs, rejects = work.inputs["urls"], open_finished(places.table), open_folder(places.quarantine)
        wanted = [name for name in _names(rejects) if _has(rejects.read(name, ["reason"]), reasons)]
        rows = 0
        if wanted:
            build_index(work)
            rows = sum(_spool(work.tasks.named(name), urls, pairs, rejects, reasons) for name in wanted)
            begun.put(work.tasks.blank.folder, wanted)
            work = replace(work, tasks=replace(work.tasks, begun=work.tasks.begun.union(wanted)))
            begin(work.open_writers(), [entry.name for entry in pairs.shards if entry.name not in wanted])
        return Retried(run_work(work, options, start), rows)


def remake(name: str, config: Any, places: Places, reasons: Collection[str], options: Options) -> Retried:
    """Make the shards of any stage again that have rows left out for one of these reasons. The others stay.

    config: the settings of the table. Raises PairloomError as the stage does.
    """
    stage, start = load(name), time.monotonic()
    options = replace(options, run=replace(options.run, reuse=None))  # it has the same failures
    refuse_half_forgotten(places.data)
    with only_writer(places.data, stage.name):
        refresh(places)
        work = prepare(stage, config, places, redo=False)
        table = open_finished(places.table)
        wanted = {entry.name: _count(entry, reasons) for entry in table.shards if _count(entry, reasons)}
        if wanted:
            begin(work.open_writers(), [entry.name for entry in table.shards if entry.name not in wanted])
        return Retried(run_work(work, options, start), sum(wanted.values()))


def left_out(table: Path, reasons: Collection[str]) -> int:
    """How many rows the stage of a table left out for one of these reasons. 0 where there is no table."""
    return sum(_count(entry, reasons) for entry in open_folder(table).shards) if is_table(table) else 0


def _count(entry: Entry, reasons: Collection[str]) -> int:
    return sum(rows for reason, rows in entry.rejected.items() if reason in reasons)


def _names(folder: Folder) -> list[str]:
    return [entry.name for entry in folder.shards if entry.rows and is_table(folder.path)]


def _has(rejects: pa.Table, reasons: Collection[str]) -> bool:
    return not set(reasons).isdisjoint(rejects["reason"].to_pylist())


def _spool(task: Task, urls: Folder, pairs: Folder, rejects: Folder, reasons: Collection[str]) -> int:
    """Note all rows of a shard as finished but those to try again. Returns how many these are."""
    name = task.name
    left_out = rejects.read(name).to_pylist()
    known = finished.outcomes(urls.read(name), pairs.read(name), left_out)
    if known is None:
        raise StoreError(
            f"shard {name} does not hold the rows of its list",
            str(pairs.path),
            "run `pairloom stage download --redo`, or `pairloom download` again, to make it again",
        )
    with Spool(begun.of(task.folder, name)) as spool:
        for key, (outcome, picture) in known.items():
            if outcome.get("reason") not in reasons:
                spool.add(key, outcome, picture)
    return sum(row["reason"] in reasons for row in left_out)
