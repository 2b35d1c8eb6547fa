"""Run one stage over a dataset: which shards are due, where they run, what is recorded, what stops the run."""

from __future__ import annotations

import shutil
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from pairloom.errors import RunError
from pairloom.store import afar
from pairloom.store.folder import MANIFEST, Entry, Folder, Header, is_table, open_folder
from pairloom.store.hashed import sha256_file
from pairloom.store.scratch import behind
from pairloom.store.tombstones import refuse_half_forgotten
from pairloom.store.writing import Writer, only_writer
from pipeline import earlier, fingerprints, folders, handing, reuse, sealed, summaries
from pipeline.card import write_card
from pipeline.cluster import open_pool
from pipeline.config import RunConfig
from pipeline.corpus import CorpusOnDisk
from pipeline.desk import Desk
from pipeline.greeting import Reception, remove
from pipeline.log import Log
from pipeline.planning import Work, prepare
from pipeline.pool import Died, Inline, Pool
from pipeline.progress import Progress
from pipeline.stage import load
from pipeline.suspects import Inquiry
from pipeline.task import Places, Task, alone, run_task, together
from pipeline.written import Made, confirm
from stages.contract import Before, Counts, kept_in

LEAST_SUSPECTS = 4  # shards whose worker died, from which on they are looked into before further ones are tried
GATHERED = "gathered-"  # in what a dataset keeps: of a stage what its index read of each shard
ROOM = "room"  # in an index that is being made: files of the making
MADE = "made.sha256"  # in an index: hash of the manifest of the table that was finished with it


@dataclass(frozen=True)
class Options:
    """How to run, not what: none of it changes the bytes that come out."""

    run: RunConfig = field(default_factory=RunConfig)
    redo: bool = False  # make shards again that another configuration made, instead of refusing
    plain: bool = False  # progress as lines even on a terminal
    log: Log = field(default_factory=Log)  # where events are written for programs


@dataclass(frozen=True)
class Done:
    """What one run of a stage did: totals over the whole table, and how many shards were made just now."""

    stage: str
    counts: Counts
    shards: int
    made: int
    seconds: float
    reused: int = 0  # shards linked from another dataset just now
    summary: Mapping[str, Any] = field(default_factory=dict)  # what the stage says of its table


def run_stage(name: str, config: Any, data: Path, options: Options, places: Places | None = None) -> Done:
    """Make all due shards of stage `name` under `data` and finish its table.

    places: where its tables lie, if not under the stages' names. Raises PairloomError if an input is missing or
    unfinished, the table was made with other settings (unless `redo`), or the stage kept too little. Interrupted at any
    point, the same call goes on where it was.
    """
    stage, start = load(name), time.monotonic()
    places = places or Places.of(stage, config, data)
    refuse_half_forgotten(places.data)
    with only_writer(places.data, stage.name):
        refuse_half_forgotten(places.data)  # which may have begun before this run had the right to write
        refresh(places)
        return run_work(prepare(stage, config, places, options.redo), options, start)


def refresh(places: Places) -> None:
    """Have here what a bucket says of the tables that a stage reads and writes."""
    for folder in (*places.inputs.values(), places.table, places.quarantine):
        afar.refresh(folder)


def run_work(work: Work, options: Options, start: float) -> Done:
    """Make the shards of this work that are due and finish its table. The caller holds the right to write it.

    start: of the whole run, as time.monotonic() has it.
    """
    stage, target, writers = work.stage, work.target, work.open_writers()
    wanted = work.tasks.fingerprints
    due = set(fingerprints.due(writers[0].made(), wanted, target))
    reused, summary = 0, None
    with pool_when_asked(work, len(due), options) as pool:
        if due or set(writers[0].names) != set(wanted) or not writers[0].complete:
            reused = _make(work, due, writers, options, pool)
        else:
            summary = summaries.known(work)
        if summary is None:
            summary = summaries.made(work, pool, options.plain, workers_apart(work, options))
    for writer in reversed(writers):
        writer.finish()
    earlier.forget(work)
    if work.index.exists():
        (work.index / MADE).write_text(sha256_file(target / MANIFEST), encoding="utf-8")
    summaries.keep(work, summary)
    table, rejects = open_folder(target), open_folder(work.places.quarantine)
    if stage.output.indexed:
        write_card(table)
    counts = count(table)
    try:
        stage.check(counts, work.config, (rejected for _, rejected in rejects.tables()))
    except RunError as error:  # a stage does not know where its tables lie
        what, where, fix = error.args
        raise RunError(what, where, fix.replace("FOLDER", str(work.places.data))) from error
    return Done(stage.name, counts, len(work.tasks), len(due) - reused, time.monotonic() - start, reused, summary)


def _make(work: Work, due: set[str], writers: tuple[Writer, Writer], options: Options, pool: Callable[[], Pool]) -> int:
    """Leave the table with all its shards, unfinished. Returns how many of those due were taken from another."""
    other = reuse.other_dataset(options.run.reuse, work.places.data)
    found = reuse.find(work, other, due)
    kept = [name for name in work.tasks.fingerprints if name not in due]
    if len(found) < len(due):  # before `begin`: an index grows from that of a finished table
        build_index(work, other, pool, options.plain, workers_apart(work, options))
        earlier.keep(work, kept)
    begin(writers, kept)
    linked = reuse.link(work, other, found, partial(record, writers))
    rest = [work.tasks.named(name) for name in work.tasks.fingerprints if name in due - linked]
    if rest:
        # if it was not needed until a found shard turned out to be damaged
        build_index(work, other, pool, options.plain, workers_apart(work, options))
        _run_due(work, rest, writers, options, pool)
    return len(linked)


@contextmanager
def pool_when_asked(work: Work, most: int, options: Options) -> Iterator[Callable[[], Pool]]:
    """The pool for index, shards and summary, opened when it is first asked for; most: shards that are due."""
    stage = work.stage
    if stage.index or stage.summary:
        most = max(most, *(len(table.shards) for table in work.inputs.values()))
    gpu = stage.wants_gpu(work.config)
    with ExitStack() as stack:

        def reception() -> Reception:
            found = Reception(work)
            stack.callback(remove, found.hello.token_file)
            return found

        @cache
        def opened() -> Pool:
            return stack.enter_context(open_pool(options.run, most, stage.name, reception, stage.overlap, gpu))

        yield opened


def workers_apart(work: Work, options: Options) -> bool:
    """Whether workers see nothing of this machine's files: those of a cluster whose dataset lies in a bucket."""
    return options.run.cluster not in ("inline", "local") and behind(work.places.data) is not None


def begin(writers: tuple[Writer, Writer], kept: list[str]) -> None:
    """Take all shards but those in `kept` off the manifests of a table and its quarantine."""
    table, rejects = writers
    rejects.begin(name for name in kept if name in rejects.done)
    table.begin(kept)


def record(writers: tuple[Writer, Writer], entries: tuple[Entry, Entry], left: bool = False) -> None:
    """Note a finished shard of the table, and of its quarantine if there is anything in it.

    left: in a bucket the worker has noted it.
    """
    if entries[1].rows:
        writers[1].record(entries[1], left)
    writers[0].record(entries[0], left)


def build_index(
    work: Work,
    other: Path | None = None,
    pool: Callable[[], Pool] = Inline,
    plain: bool = False,
    apart: bool = False,
) -> None:
    """Let the stage read the whole corpus once. What it wrote is kept for a run that goes on later, or has more.

    other: a dataset that may have the same index. pool: where shards are read for it. apart: as of a Desk.
    """
    folder, stage = work.index, work.stage
    if folder.exists() or (stage.index and sealed.bring(folder)):
        return
    temporary = folder.with_name(folder.name + ".tmp")
    folders.keep_whole(temporary)
    temporary.mkdir(parents=True, exist_ok=True)
    begun = any(path.name != ROOM for path in temporary.iterdir())  # without what came before
    others = [path for path in folder.parent.iterdir() if path != temporary]  # of other inputs or settings
    gathered = kept_in(work.places.data) / f"{GATHERED}{stage.name}"
    made_by = fingerprints.shard_fingerprint(work.header, None)
    desk = Desk(stage.name, pool, gathered, temporary / ROOM, made_by, plain, work.tasks.blank.marks, apart)
    corpus = CorpusOnDisk(work.inputs, desk)
    if stage.index and not reuse.take_index(work, other, temporary):
        print(f"{stage.name}: reading the whole corpus", file=sys.stderr, flush=True)
        before = _finished_before(work.header, work.target, others)
        grown = stage.grow and before and not begun and stage.grow(corpus, work.config, temporary, before)
        if not grown:
            stage.index(corpus, work.config, temporary)
        shutil.rmtree(desk.room, ignore_errors=True)
        handing.keep_only(desk.room, ())
        desk.forget_others()
        sealed.seal(temporary)
    earlier.carry(work, others, temporary)
    for path in others:
        shutil.rmtree(path, ignore_errors=True)
    temporary.replace(folder)
    sealed.put(folder)


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
    work: Work, tasks: list[Task], writers: tuple[Writer, Writer], options: Options, opened: Callable[[], Pool]
) -> None:
    """Make these shards and record each as soon as it is seen here."""
    sizes, stage, grouped, pool = work.sizes(), work.stage, together(tasks), opened()
    total = sum(sizes[task.name] for task in tasks)
    with Progress(work.header.stage, total, plain=options.plain) as progress:
        going = Going(progress, options.log, stage.name, sizes)

        def note(made: Made) -> None:
            confirm(made, work.places.table, work.places.quarantine, stage.output.indexed, pool.file_s)
            record(writers, made.entries, left=True)
            going.finished(made)

        ready = partial(_told_workers, pool)
        inquiry = Inquiry(pool, sizes, ready)
        waiting, suspects = deque(grouped), list[Task]()
        while waiting:
            rest = deque[Task]()
            for task, result in pool.run(run_task, waiting, ready, heard=going.heard):
                progress.ended(task.label)
                if not isinstance(result, Died):
                    for made in result:
                        note(made)
                    inquiry.sound += len(result)
                    continue
                suspects.append(task)  # perhaps only a neighbour of the culprit
                if len(suspects) >= max(LEAST_SUSPECTS, pool.workers()):  # or does every shard kill its worker?
                    rest.extend(waiting)
                    waiting.clear()
            for made in inquiry.made(suspects):
                note(made)
            waiting, suspects = rest, []


@dataclass
class Going:
    """How far a stage is, as it is shown and logged."""

    progress: Progress
    log: Log
    stage: str
    sizes: Mapping[str, int]  # rows of each shard
    kept: int = 0
    left_out: int = 0

    def heard(self, task: Task, rows: float) -> None:
        """So many rows of a task are done, which ends after more than one shard where they are made together."""
        most = sum(self.sizes[one.name] for one in alone(task))
        self.progress.under_way(task.label, min(rows, most))
        self._log()

    def finished(self, made: Made) -> None:
        """A shard is recorded."""
        self.kept += made.table.rows
        self.left_out += max(0, made.table.rows_in - made.table.rows)
        self.progress.note(f"{self.kept:,} kept, {self.left_out:,} left out")
        self.progress.advance(made.table.rows_in)
        self._log()

    def _log(self) -> None:
        progress, counts = self.progress, {"kept": self.kept, "left_out": self.left_out}
        self.log.progress(self.stage, int(progress.shown), progress.total, progress.rate, counts)


def _told_workers(pool: Pool, task: Task) -> Task:
    """The task with a Config that knows how many processes share its limits, if it has a field for that."""
    if any(item.name == "workers" for item in fields(task.config)):
        return replace(task, config=replace(task.config, workers=pool.workers()))
    return task


def count(folder: Folder) -> Counts:
    """Rows in, rows out and rejects by reason of a whole table."""
    return Counts(folder.shards.total("rows_in"), folder.rows, folder.shards.rejected())
