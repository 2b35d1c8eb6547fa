"""Run one stage over a dataset: which shards are due, where they run, what is recorded, what stops the run."""

from __future__ import annotations

import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa

from pairloom.errors import StoreError
from pairloom.store.folder import MANIFEST, Entry, Folder, Header, is_table, open_folder
from pairloom.store.writing import Writer, only_writer, sha256_file
from pipeline import fingerprints
from pipeline.card import write_card
from pipeline.cluster import Died, Pool, open_pool
from pipeline.config import RunConfig, as_json
from pipeline.progress import Progress
from pipeline.stage import LoadedStage, load
from pipeline.task import Places, Task, probe, run_task
from schemas.quarantine import QUARANTINE
from stages.contract import Before, Counts

MADE = "made.sha256"  # in an index: hash of the manifest of the table that was finished with it


@dataclass(frozen=True)
class Options:
    """How to run, not what: none of it changes the bytes that come out."""

    run: RunConfig = field(default_factory=RunConfig)
    redo: bool = False  # make shards again that another configuration made, instead of refusing
    plain: bool = False  # progress as lines even on a terminal


@dataclass(frozen=True)
class Done:
    """What one run of a stage did: totals over the whole table, and how many shards were made just now."""

    stage: str
    counts: Counts
    shards: int
    made: int
    seconds: float
    summary: Mapping[str, Any] = field(default_factory=dict)  # what the stage says of its table


@dataclass(frozen=True)
class CorpusOnDisk:
    """The finished inputs of a stage, as its `index` and `plan` see them (stages/contract.py)."""

    inputs: dict[str, Folder]

    def tables(
        self, stage: str, columns: Sequence[str], shards: Collection[str] | None = None
    ) -> Iterator[tuple[str, pa.Table]]:
        return self.inputs[stage].tables(columns, shards)

    def hashes(self, stage: str) -> dict[str, str]:
        return {entry.name: entry.sha256 for entry in self.inputs[stage].shards}

    def bytes(self, stage: str, name: str) -> int:
        return next(entry.bytes for entry in self.inputs[stage].shards if entry.name == name)


def run_stage(name: str, config: Any, data: Path, options: Options, places: Places | None = None) -> Done:
    """Make all due shards of stage `name` under `data` and finish its table.

    places: where its tables lie, if not under the stages' names. Raises PairloomError if an input is missing or
    unfinished, the table was made with other settings (unless `redo`), or the stage kept too little. Interrupted at any
    point, the same call goes on where it was.
    """
    stage = load(name)
    places = places or Places.of(stage, config, data)
    with only_writer(places.data, stage.name):
        return _run_stage(stage, config, places, options)


def _run_stage(stage: LoadedStage, config: Any, places: Places, options: Options) -> Done:
    start = time.monotonic()
    inputs = {needed: open_finished(folder) for needed, folder in places.inputs.items()}
    refuse_misaligned(inputs)
    header = make_header(stage, config)
    target = places.table
    if is_table(target) and not options.redo:
        fingerprints.refuse_mixture(open_folder(target).header, header, target)
    tasks = make_tasks(stage, config, header, places, inputs)
    writers = Writer.open(target, header), Writer.open(places.quarantine, _of_quarantine(header))
    wanted = {task.name: task.fingerprint for task in tasks}
    due = set(fingerprints.due(writers[0].done, wanted, target))
    kept = [task.name for task in tasks if task.name not in due]
    if due or set(writers[0].done) != set(wanted) or not writers[0].complete:
        if due:
            build_index(stage, config, header, inputs, tasks[0].folder, target)
        begin(writers, kept)
        if due:
            _run_due(stage, [task for task in tasks if task.name in due], inputs, writers, options)
    for writer in reversed(writers):
        writer.finish()
    if tasks and tasks[0].folder.exists():
        (tasks[0].folder / MADE).write_text(sha256_file(target / MANIFEST), encoding="utf-8")
    if stage.output.indexed:
        write_card(open_folder(target))
    counts = count(open_folder(target))
    stage.check(counts, config, (table for _, table in open_folder(places.quarantine).tables()))
    summary = stage.summary(CorpusOnDisk({stage.name: open_folder(target)}))
    return Done(stage.name, counts, len(tasks), len(due), time.monotonic() - start, summary)


def open_finished(path: Path) -> Folder:
    """The table at `path`. Raises StoreError if it is missing or its stage was interrupted."""
    folder = open_folder(path)
    if not folder.complete:
        raise StoreError(
            f"table {path.name} is unfinished: {len(folder.shards)} shards so far",
            where=str(path),
            fix=f"finish it first: `pairloom stage {path.name}`",
        )
    return folder


def refuse_misaligned(inputs: dict[str, Folder]) -> None:
    """Raise StoreError unless all inputs have the same shards, since they are read side by side."""
    names = {stage: [entry.name for entry in folder.shards] for stage, folder in inputs.items()}
    first = next(iter(names))
    for stage, shards in names.items():
        if shards != names[first]:
            raise StoreError(
                f"tables {first} and {stage} have different shards ({len(names[first])} and {len(shards)})",
                where=str(inputs[stage].path),
                fix=f"run `pairloom stage {stage}` again, so that it catches up",
            )


def make_header(stage: LoadedStage, config: Any) -> Header:
    return Header(
        table=stage.output.name,
        table_version=stage.output.version,
        stage=stage.name,
        stage_version=stage.version,
        config=as_json(config),
        resources=fingerprints.resource_hashes(stage.resources(config)),
        pairloom=version("pairloom"),
    )


def _of_quarantine(header: Header) -> Header:
    return replace(header, table=QUARANTINE.name, table_version=QUARANTINE.version)


def make_tasks(
    stage: LoadedStage, config: Any, header: Header, places: Places, inputs: dict[str, Folder]
) -> list[Task]:
    """One task for each output shard, due or not, in order."""
    folders = list(inputs.values())
    corpus = [[entry.sha256 for entry in folder.shards] for folder in folders]
    index = fingerprints.shard_fingerprint(header, corpus)
    folder = places.data / ".index" / stage.name / index[:16]

    def task(name: str, sources: Any, planned: pa.Table | None = None) -> Task:
        wanted = fingerprints.shard_fingerprint(header, sources)
        made_from = {"sources": fingerprints.digest(sources)}
        return Task(places, stage.module, config, header, folder, name, wanted, made_from, planned)

    if stage.plan:
        plans = stage.plan(CorpusOnDisk(inputs), config)
        return [task(plan.name, fingerprints.planned_sources(folders, plan), plan.rows) for plan in plans]
    return [task(name, sources) for name, sources in fingerprints.scoped_sources(folders, stage.scope).items()]


def begin(writers: tuple[Writer, Writer], kept: list[str]) -> None:
    """Take all shards but those in `kept` off the manifests of a table and its quarantine."""
    table, rejects = writers
    rejects.begin(name for name in kept if name in rejects.done)
    table.begin(kept)


def build_index(
    stage: LoadedStage, config: Any, header: Header, inputs: dict[str, Folder], folder: Path, target: Path
) -> None:
    """Let the stage read the whole corpus once; what it wrote is kept for a run that goes on later, or has more."""
    if folder.exists():
        return
    temporary = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    others = [path for path in folder.parent.iterdir() if path != temporary]  # of other inputs or settings
    corpus = CorpusOnDisk(inputs)
    if stage.index:
        print(f"{stage.name}: reading the whole corpus", file=sys.stderr, flush=True)
        before = _finished_before(header, target, others)
        if not (stage.grow and before and stage.grow(corpus, config, temporary, before)):
            stage.index(corpus, config, temporary)
    for other in others:
        shutil.rmtree(other, ignore_errors=True)
    temporary.replace(folder)


def _finished_before(header: Header, target: Path, indexes: Sequence[Path]) -> Before | None:
    """The index that the table at `target` was made with, if that is finished and had the same settings."""
    if not is_table(target):
        return None
    table = open_folder(target)
    if not table.complete or replace(table.header, pairloom=header.pairloom) != header:
        return None
    made = sha256_file(target / MANIFEST)
    marks = {path: path / MADE for path in indexes}
    found = [path for path, mark in marks.items() if mark.exists() and mark.read_text(encoding="utf-8") == made]
    return Before(found[0], target) if found else None


def _run_due(
    stage: LoadedStage,
    tasks: list[Task],
    inputs: dict[str, Folder],
    writers: tuple[Writer, Writer],
    options: Options,
) -> None:
    sizes = {entry.name: entry.rows for entry in next(iter(inputs.values())).shards}
    total = sum(task.planned.num_rows if task.planned is not None else sizes[task.name] for task in tasks)
    with (
        open_pool(options.run, len(tasks), stage.overlap) as pool,
        Progress(tasks[0].header.stage, total, plain=options.plain) as progress,
    ):

        def record(entries: tuple[Entry, Entry]) -> None:
            table, rejects = entries
            if rejects.rows:
                writers[1].record(rejects)
            writers[0].record(table)
            progress.advance(table.rows_in)

        tasks = [_told_workers(task, pool.workers()) for task in tasks]
        suspects = []
        for task, result in pool.run(run_task, tasks):
            if isinstance(result, Died):
                suspects.append(task)  # perhaps only a neighbour of the culprit: looked into when nothing else runs
            else:
                record(result)
        for task in suspects:
            rows = task.planned.num_rows if task.planned is not None else sizes[task.name]
            record(_run_suspect(pool, task, rows))


def _told_workers(task: Task, workers: int) -> Task:
    """The task with a Config that knows how many processes share its limits, if it has a field for that."""
    if any(item.name == "workers" for item in fields(task.config)):
        return replace(task, config=replace(task.config, workers=workers))
    return task


def _run_suspect(pool: Pool, task: Task, rows: int) -> tuple[Entry, Entry]:
    """Find the rows that kill their worker by halving, leave them out, and make the shard from the others."""
    killers = find_killers(lambda span: _survives(pool, replace(task, span=span)), rows)
    (result,) = [result for _, result in pool.run(run_task, [replace(task, killers=tuple(killers))])]
    if isinstance(result, Died):
        raise StoreError(
            f"shard {task.name} kills its worker although no single row of it does: {result.detail}",
            where=str(task.places.table),
            fix="give the workers more memory, or make the shards smaller (sample.rows_per_shard)",
        )
    return result


def _survives(pool: Pool, task: Task) -> bool:
    return not any(isinstance(result, Died) for _, result in pool.run(probe, [task]))


def find_killers(survives: Callable[[tuple[int, int]], bool], rows: int) -> list[int]:
    """The rows of 0..rows that kill alone, in order, by halving every span that does not survive."""
    killers, spans = [], [(0, rows)]
    while spans:
        start, stop = spans.pop()
        if stop > start and not survives((start, stop)):
            middle = (start + stop) // 2
            if stop - start == 1:
                killers.append(start)
            else:
                spans += [(middle, stop), (start, middle)]
    return sorted(killers)


def count(folder: Folder) -> Counts:
    """Rows in, rows out and rejects by reason of a whole table."""
    rejected: Counter[str] = Counter()
    for entry in folder.shards:
        rejected.update(entry.rejected)
    return Counts(sum(entry.rows_in for entry in folder.shards), folder.rows, dict(sorted(rejected.items())))
