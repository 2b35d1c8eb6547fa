"""What is known of a stage's run before any work: its inputs, what will have made its table, and a task a shard."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, overload

from pairloom.errors import StoreError
from pairloom.store import cures, scratch
from pairloom.store.folder import Folder, Header, is_table, open_folder
from pairloom.store.writing import Writer, run_of
from pipeline import begun, fingerprints, windows
from pipeline.config import as_json
from pipeline.corpus import CorpusOnDisk
from pipeline.paths import absolute
from pipeline.stage import LoadedStage
from pipeline.task import Places, Task
from schemas.quarantine import QUARANTINE
from stages.contract import Window, kept_in


@dataclass(frozen=True)
class Tasks(Sequence[Task]):
    """A task for each output shard, made when it is looked at: most runs look at few of them."""

    blank: Task
    fingerprints: Mapping[str, str]  # of each output shard, in order
    sources: Mapping[str, Any]
    windows: Mapping[str, Window]  # of each, where shards are cut anew
    begun: frozenset[str]  # of which a bucket has what is finished

    @classmethod
    def of(cls, blank: Task, sources: Mapping[str, Any], windows: Mapping[str, Window]) -> Tasks:
        wanted = fingerprints.shard_fingerprints(blank.header, sources)
        return cls(blank, wanted, sources, windows, begun.shards(blank.folder))

    def named(self, name: str) -> Task:
        made_from = {"sources": fingerprints.digest(self.sources[name])}
        window, wanted = self.windows.get(name), self.fingerprints[name]
        own = replace(self.blank, name=name, fingerprint=wanted, sources=made_from, window=window)
        return replace(own, begun=name in self.begun)

    @overload
    def __getitem__(self, place: int) -> Task: ...

    @overload
    def __getitem__(self, place: slice) -> list[Task]: ...

    def __getitem__(self, place: int | slice) -> Task | list[Task]:
        names = list(self.fingerprints)[place]
        return self.named(names) if isinstance(names, str) else list(map(self.named, names))

    def __iter__(self) -> Iterator[Task]:
        return map(self.named, self.fingerprints)

    def __len__(self) -> int:
        return len(self.fingerprints)


@dataclass(frozen=True)
class Work:
    """One stage on its inputs as they are now. Nobody else may write its table meanwhile (`only_writer`)."""

    stage: LoadedStage
    config: Any
    places: Places
    inputs: Mapping[str, Folder]
    header: Header
    index: Path  # the folder of what the stage's `index` writes
    tasks: Tasks  # of every output shard, due or not, in order

    @property
    def target(self) -> Path:
        return self.places.table

    def open_writers(self) -> tuple[Writer, Writer]:
        """Of the table and of its quarantine."""
        return Writer.open(self.target, self.header), Writer.open(self.places.quarantine, of_quarantine(self.header))

    def sizes(self) -> dict[str, int]:
        """How many rows each task takes in, by its shard's name."""
        shards = next(iter(self.inputs.values())).shards
        rows = dict(zip(shards.column("name"), shards.column("rows"), strict=True))
        windows = {id(window): window for window in self.tasks.windows.values()}
        return rows | dict(part for window in windows.values() for part in window.parts)


def prepare(stage: LoadedStage, config: Any, places: Places, redo: bool) -> Work:
    """Open the inputs and plan a task for each output shard.

    Raises StoreError if an input is missing or unfinished, or the table was made with other settings (unless `redo`).
    """
    inputs = {needed: open_finished(folder) for needed, folder in places.inputs.items()}
    refuse_misaligned(inputs)
    header = make_header(stage, config)
    if is_table(places.table) and not redo:
        fingerprints.refuse_mixture(open_folder(places.table).header, header, places.table)
    corpus = [folder.shards.column("sha256") for folder in inputs.values()]
    index = places.data / ".index" / stage.name / fingerprints.shard_fingerprint(header, corpus)[:16]
    blank = Task(places.absolute(), stage, config, header, absolute(index), "", "")
    blank = replace(blank, marks=scratch.marks([*blank.places.inputs.values(), blank.places.data]))
    tasks = _tasks(replace(blank, started_in=absolute(Path()), run=run_of(places.data, stage.name)), inputs)
    return Work(stage, config, places, inputs, header, index, tasks)


def of_quarantine(header: Header) -> Header:
    """The header of what the table of this header left out."""
    return replace(header, table=QUARANTINE.name, table_version=QUARANTINE.version)


def open_finished(path: Path) -> Folder:
    """The table at `path`. Raises StoreError if it is missing or its stage was interrupted."""
    if not is_table(path):
        command = cures.stage_command(path, cures.STAGES.get(path.name, path.name))
        raise StoreError(f"there is no table {path.name} yet", str(path), f"make it first: {command}")
    folder = open_folder(path)
    if not folder.complete:
        raise StoreError(
            f"table {path.name} is unfinished: {len(folder.shards)} shards so far",
            where=str(path),
            fix=cures.resume(path, folder.maker),
        )
    return folder


def refuse_misaligned(inputs: Mapping[str, Folder]) -> None:
    """Raise StoreError unless all inputs have the same shards, since they are read side by side."""
    names = {stage: folder.shards.column("name") for stage, folder in inputs.items()}
    first = next(iter(names))
    for stage, shards in names.items():
        if shards != names[first]:
            raise StoreError(
                f"tables {first} and {stage} have different shards ({len(names[first])} and {len(shards)})",
                where=str(inputs[stage].path),
                fix=cures.resume(inputs[stage].path, inputs[stage].maker),
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


def _tasks(blank: Task, inputs: Mapping[str, Folder]) -> Tasks:
    """The blank task filled in for each output shard."""
    folders, stage = list(inputs.values()), blank.stage
    if stage.plan:
        planned = list(fingerprints.windowed_sources(folders, _windows(blank, inputs)))
        sources = {name: of for _, name, of in planned}
        return Tasks.of(blank, sources, {name: window for window, name, _ in planned})
    return Tasks.of(blank, fingerprints.scoped_sources(folders, stage.scope(blank.config)), {})


def _windows(blank: Task, inputs: Mapping[str, Folder]) -> Sequence[Window]:
    plan = blank.stage.plan
    assert plan is not None
    windows.clean(blank.folder)
    make = partial(plan, CorpusOnDisk(inputs), blank.config)
    return windows.planned(blank.stage.name, kept_in(blank.places.data), blank.folder.name, make)
