"""What a worker does for one shard: read its inputs, run the stage under the guard, write table and rejects."""

from __future__ import annotations

import json
import shutil
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pairloom.errors import PairloomError, RunError
from pairloom.machine import of_the_machine
from pairloom.store import afar, scratch
from pairloom.store.folder import Entry, Header, read_shard
from pairloom.store.writing import run_of, write_index, write_shard
from pairloom.table import Array
from pipeline import begun, linking, sealed, windows
from pipeline.config import as_json
from pipeline.forgotten import without_forgotten
from pipeline.guard import reject_rows, run_guarded
from pipeline.memory import keep_freed_memory
from pipeline.paths import absolute, resolved
from pipeline.reports import WORKED
from pipeline.stage import LoadedStage
from pipeline.written import Made, footer_of
from stages.contract import ReadShard, Window

_OPENING = threading.Lock()
LOOKS, PAUSE_S = 10, 0.3  # at the name of the run


@dataclass(frozen=True)
class Places:
    """The folders of a stage's tables: those of its inputs by stage, its own, and its quarantine."""

    inputs: Mapping[str, Path]
    table: Path
    quarantine: Path
    data: Path  # of the dataset: locks and indexes lie there

    @classmethod
    def of(cls, stage: LoadedStage, config: Any, data: Path) -> Places:
        """Where they lie in a dataset: under the stages' names."""
        inputs = {name: data / name for name in stage.inputs(config)}
        return cls(inputs, data / stage.name, data / "quarantine" / stage.name, data)

    def absolute(self) -> Places:
        """The same for a process that started in another folder."""
        inputs = {stage: absolute(folder) for stage, folder in self.inputs.items()}
        return Places(inputs, absolute(self.table), absolute(self.quarantine), absolute(self.data))


@dataclass(frozen=True)
class Task:
    """One output shard to make. Small, so that it can travel to any worker."""

    places: Places
    stage: LoadedStage  # its functions travel by their names
    config: Any  # the stage's own Config
    header: Header
    folder: Path  # what the stage's `index` wrote
    name: str
    fingerprint: str
    sources: Mapping[str, Any] = field(default_factory=dict)  # input stage -> hash, for the file's metadata
    window: Window | None = None  # where its rows lie, for a stage that cuts shards anew
    also: tuple[Task, ...] = ()  # further shards of its window, which are made from the same reading
    begun: bool = False  # whether a bucket has what is finished of it (pipeline/begun.py)
    killers: tuple[int, ...] = ()  # rows of the first input that killed their worker
    span: tuple[int, int] | None = None  # a probe: only these rows, and nothing is written
    run: str = ""  # the run that wants it. A worker may still be at a task of one that was stopped
    marks: tuple[scratch.Mark, ...] = ()  # of datasets in a bucket: what a worker elsewhere must know of them
    started_in: Path = Path()  # where the run was started, which relative paths of the Config are meant from

    @property
    def label(self) -> str:
        """What Dask's dashboard and our messages call it."""
        rows = f" rows {self.span[0]}–{self.span[1]}" if self.span else ""
        return f"{self.stage.name}-{self.name}{rows}"


def together(tasks: Sequence[Task]) -> list[Task]:
    """These tasks, those of one window as one."""
    found: dict[str, list[Task]] = {}
    for task in tasks:
        found.setdefault(task.name if task.window is None else task.window.parts[0][0], []).append(task)
    return [replace(first, also=tuple(others)) for first, *others in found.values()]


def alone(task: Task) -> list[Task]:
    """The tasks that were put together, each by itself."""
    return [replace(task, also=()), *task.also]


def run_task(task: Task) -> list[Made]:
    """Make and write the shard and what it left out, and the shards that go with it.

    Raises MachineError for what this machine lacks, whatever the stage or the store made of it.
    """
    keep_freed_memory()
    where = f"stage {task.stage.name}, shard {task.name}, on {socket.gethostname()}"
    try:
        scratch.attend(task.marks)
        for one in alone(task):
            if one.begun:
                begun.bring(begun.of(one.folder, one.name))
        return [_make(one, tables) for one, tables in read_inputs(task)]
    except (PairloomError, OSError, MemoryError, RuntimeError) as error:
        if lack := of_the_machine(error, where):
            raise lack from error
        raise


def _make(task: Task, tables: list[pa.Table]) -> Made:
    stage, since = task.stage, time.monotonic()
    rows_in = tables[0].num_rows
    killers, tables[0] = _part(tables[0], task.killers)
    died = reject_rows(stage.name, killers, "worker-died", "the process died each time", attempts=2)
    tables[0], linked = _with_pictures(task, tables[0])
    output, rejects = run_guarded(stage, tables, open_tools(task))
    output, again = without_forgotten(stage.name, tables[0], output, task.places.data)
    output = linking.stored(output, stage.output.name, linked)
    rejects = pa.concat_tables([rejects, died, linked.rejects, again])
    _refuse_loss(stage, task.name, rows_in, output.num_rows + rejects.num_rows)
    _refuse_outdated(task)
    quarantined = write_rejects(task.places.quarantine, task.name, rejects)
    written = write_shard(task.places.table, task.name, _with_provenance(output, task))
    if stage.output.indexed:
        write_index(task.places.table, task.name, written.sha256, compared=True)
    shutil.rmtree(begun.of(task.folder, task.name), ignore_errors=True)
    if task.begun:
        begun.remove(begun.of(task.folder, task.name))
    made = {"fingerprint": task.fingerprint, "rows_in": rows_in}
    reasons = dict(sorted(Counter(rejects["reason"].to_pylist()).items()))
    footers = footer_of(task.places.table, written), footer_of(task.places.quarantine, quarantined)
    table, rest = replace(written, rejected=reasons, **made), replace(quarantined, **made)
    WORKED.add(stage.name, output.num_rows, max(0, rows_in - output.num_rows), since)
    if rest.rows:
        afar.leave(task.places.quarantine, rest)
    afar.leave(task.places.table, table)
    return Made(table, rest, footers, socket.gethostname())


def _refuse_outdated(task: Task) -> None:
    """Raise RunError if another run writes the table by now: with other settings it would be other bytes."""
    for _ in range(LOOKS):
        now = run_of(task.places.data, task.stage.name)
        if task.run in ("", now):
            return
        time.sleep(PAUSE_S)  # a network file system may show what the file held before
    raise RunError(
        f"shard {task.name} of stage {task.stage.name} is not written: its run has ended",
        where=str(task.places.table),
        fix="nothing needs to be done: a later run makes the shard, if it is due",
    )


def probe(task: Task) -> None:
    """Run the stage on the task's span and forget the result. Only whether the worker survives is of interest."""
    assert task.span is not None
    scratch.attend(task.marks)
    stage = task.stage
    _, tables = next(read_inputs(task))
    start, stop = task.span
    tables[0], _ = _with_pictures(task, tables[0].slice(start, stop - start))
    run_guarded(stage, tables, open_tools(task))


def open_tools(task: Task) -> Any:
    """The stage's tools, loaded once a worker process."""
    with _OPENING:  # several shards may start at once, in threads
        sealed.need(task.folder, task.stage.index is not None)
        return _open_tools(task.stage.setup, resolved(task.config, task.started_in), task.folder)


@lru_cache(maxsize=1)
def _open_tools(setup: Callable[..., Any], config: Any, folder: Path) -> Any:
    return setup(config, folder)


def read_inputs(task: Task) -> Iterator[tuple[Task, list[pa.Table]]]:
    """The task, and those that go with it, with a table for each of the stage's inputs.

    Of each the shard of the same name (in its metadata), or the rows that were dealt out to it.
    """
    if task.window is not None:
        tasks = {one.name: one for one in alone(task)}
        deal = partial(_deal, task.stage, task.config)
        for name, tables in windows.read(task.window, list(tasks), task.places.inputs, deal, task.folder):
            yield tasks[name], tables
        return
    columns = task.stage.columns
    files = {stage: folder / f"{task.name}.parquet" for stage, folder in task.places.inputs.items()}
    yield task, [named(read_shard(file, columns.get(stage)), task.name) for stage, file in files.items()]


def _deal(stage: LoadedStage, config: Any, read: ReadShard, window: Window) -> Sequence[Array]:
    assert stage.deal is not None
    return stage.deal(read, window, config)


def _with_pictures(task: Task, table: pa.Table) -> tuple[pa.Table, linking.Linked]:
    """The rows of the first input with the pictures that it holds as links, if the stage looks at them."""
    if not task.stage.reads_pictures(task.config):
        return table, linking.Linked()
    return linking.read(task.stage.name, table, next(iter(task.places.inputs.values())))


def named(table: pa.Table, name: str) -> pa.Table:
    """The table with the name of its shard in the metadata, where a stage finds it."""
    return table.replace_schema_metadata({**(table.schema.metadata or {}), b"shard": name.encode()})


def _part(table: pa.Table, rows: Sequence[int]) -> tuple[pa.Table, pa.Table]:
    """(these rows, the others), both in order."""
    if not rows:
        return table.slice(0, 0), table  # nothing is copied: a shard of pictures is large
    chosen = pa.array([row in rows for row in range(table.num_rows)], pa.bool_())
    return table.filter(chosen), table.filter(pc.invert(chosen))


def _refuse_loss(stage: LoadedStage, name: str, rows_in: int, accounted: int) -> None:
    if accounted < rows_in:
        raise RunError(
            f"stage {stage.name} lost {rows_in - accounted} of {rows_in} rows: neither kept nor rejected",
            where=f"shard {name}",
            fix="this is a bug in the stage; report it with the shard",
        )


def write_rejects(folder: Path, name: str, rejects: pa.Table) -> Entry:
    """Write the quarantine shard, or remove it if there is nothing in it (most shards have none)."""
    if rejects.num_rows:
        return write_shard(folder, name, rejects)
    (folder / f"{name}.parquet").unlink(missing_ok=True)
    return Entry(name=name, rows=0, bytes=0, sha256="")


def _with_provenance(output: pa.Table, task: Task) -> pa.Table:
    """The stage's own metadata and, under `pairloom`, what made this file."""
    stage = task.stage
    checked = stage.output.check(output, where=f"stage {stage.name}, shard {task.name}")
    made_by = vars(task.header) | {"config": as_json(task.config), "inputs": dict(task.sources)}
    own = {b"pairloom": json.dumps(made_by, sort_keys=True, ensure_ascii=False).encode()}
    inherited = {key: value for key, value in (output.schema.metadata or {}).items() if key not in (*own, b"shard")}
    return checked.replace_schema_metadata(inherited | own)
