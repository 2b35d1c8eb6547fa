"""The inputs of a stage as its `index`, `plan` and `summary` see them (stages/contract.py): read here or by workers."""

from __future__ import annotations

import mmap
import os
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import xxhash

from pairloom.errors import PairloomError, RunError, StoreError
from pairloom.machine import of_the_machine
from pairloom.store import scratch
from pairloom.store.folder import Folder
from pipeline import handing, linking
from pipeline.fingerprints import digest
from pipeline.memory import keep_freed_memory
from pipeline.paths import absolute, resolved
from pipeline.pool import Died, Inline, Pool
from pipeline.progress import Progress

SUM = "-"  # in a file's name, before the sum of its content
GROUPS = 64  # parts of a table that are summed up by themselves
TRIES = 3  # of a part whose worker dies
PAUSE_S = 0.2  # between two looks at a file that a worker wrote
R = TypeVar("R")


@dataclass(frozen=True)
class Errand:
    """A part of the work on a whole corpus. Small, so that it can travel to any worker."""

    label: str
    number: int
    rows: int
    call: Callable[[], Any]  # pickled with its arguments
    marks: tuple[scratch.Mark, ...] = ()  # of a dataset in a bucket


@dataclass(frozen=True)
class Desk:
    """Where errands are run, and where their files lie."""

    title: str  # the stage
    pool: Callable[[], Pool]
    gathered: Path  # files that are kept for the next run
    room: Path  # files that go with the index
    made_by: str  # stands for the stage's version and settings
    plain: bool = False
    marks: tuple[scratch.Mark, ...] = ()  # of the dataset, if it lies in a bucket
    apart: bool = False  # whether workers see nothing of these files but by the bucket
    used: set[Path] = field(default_factory=set)

    def run(self, what: str, errands: Sequence[Errand], here: bool = False) -> list[Any]:
        """The results of these errands, in order. Raises RunError if one kills its worker each time.

        here: they need files that workers elsewhere do not see.
        """
        if not errands:
            return []
        results: dict[int, Any] = {}
        waiting, tries = deque(errands), Counter[int]()
        pool = Inline() if here and self.apart else self.pool()
        with Progress(f"{self.title}: {what}", sum(each.rows for each in errands), plain=self.plain) as progress:
            while waiting:
                died = deque[Errand]()
                for errand, result in pool.run(run_errand, waiting, alone=bool(tries)):
                    if isinstance(result, Died):
                        died.append(errand)
                        self._refuse_deadly(errand, result, tries)
                    else:
                        results[errand.number] = result
                        progress.advance(errand.rows)
                waiting = died
        return [results[errand.number] for errand in errands]

    def _refuse_deadly(self, errand: Errand, died: Died, tries: Counter[int]) -> None:
        tries[errand.number] += 1
        if tries[errand.number] == TRIES:
            raise RunError(
                f"the process died {TRIES} times at {errand.label}: {died.detail}",
                where=f"stage {self.title}, which reads the whole corpus",
                fix="give the workers more memory, or make shards smaller (sample.rows_per_shard)",
            )

    def forget_others(self) -> None:
        """Remove gathered files that were of no use this time."""
        names = {path.name for path in self.used}
        for name in os.listdir(self.gathered) if self.gathered.is_dir() else ():
            if name not in names:
                (self.gathered / name).unlink(missing_ok=True)
        handing.keep_only(self.gathered, names)


@dataclass(frozen=True)
class CorpusOnDisk:
    """Finished tables. Without a desk all is done in this process, and nothing is kept."""

    inputs: Mapping[str, Folder]
    desk: Desk | None = None

    def tables(
        self, stage: str, columns: Sequence[str], shards: Collection[str] | None = None
    ) -> Iterator[tuple[str, pa.Table]]:
        folder = self.inputs[stage]
        for name in folder.shards.column("name"):
            if shards is None or name in shards:
                yield name, linking.read_columns(folder.file(name), columns)

    def hashes(self, stage: str) -> dict[str, str]:
        return self._column(stage, "sha256")

    def sizes(self, stage: str) -> dict[str, int]:
        return self._column(stage, "bytes")

    def _column(self, stage: str, key: str) -> dict[str, Any]:
        shards = self.inputs[stage].shards
        return dict(zip(shards.column("name"), shards.column(key), strict=True))

    def gathered(
        self,
        inputs: Mapping[str, Sequence[str]],
        function: Callable[..., pa.Table],
        argument: Any,
        shards: Collection[str] | None = None,
    ) -> dict[str, Path]:
        desk, made = self._desk(), partial(function, argument=_from_here(argument))
        what = [desk.made_by, function.__module__, function.__qualname__, *map(list, inputs.values())]
        hashes = [self.hashes(stage) for stage in inputs]
        names = [name for name in hashes[0] if shards is None or name in shards]
        keys = {name: digest([*what, *(each[name] for each in hashes)])[:32] for name in names}
        wanted = set(keys.values())
        handing.bring(desk.gathered, lambda name: name.partition(SUM)[0] in wanted)
        known = _intact(desk.gathered, wanted)
        missing = {name: made for name, key in keys.items() if key not in known}
        written = self._write("reading", inputs, missing, keys, desk.gathered)
        found = {name: written.get(name) or known[key] for name, key in keys.items()}
        desk.used.update(found.values())
        return found

    def answers(
        self, inputs: Mapping[str, Sequence[str]], function: Callable[..., pa.Table], arguments: Mapping[str, Any]
    ) -> dict[str, Path]:
        folder = self._desk().room / f"answers-{len(list(self._desk().room.glob('answers-*')))}"
        names = [name for name in self.inputs[next(iter(inputs))].shards.column("name") if name in arguments]
        calls = {name: partial(function, argument=_from_here(arguments[name])) for name in names}
        return self._write("looking again at", inputs, calls, {name: name for name in names}, folder)

    def _write(
        self,
        what: str,
        inputs: Mapping[str, Sequence[str]],
        calls: Mapping[str, partial[pa.Table]],
        keys: Mapping[str, str],
        target: Path,
    ) -> dict[str, Path]:
        """Of each shard that has a call the file with what came of it, which its key and its content name."""
        if not calls:
            return {}
        desk, first = self._desk(), next(iter(inputs))
        rows = self._column(first, "rows")
        handed = desk.apart or target == desk.gathered
        target.mkdir(parents=True, exist_ok=True)
        errands = [
            Errand(
                label=f"{desk.title}-reads-{first}-{name}",
                number=number,
                rows=rows[name],
                call=partial(_written, self._files(inputs, name), call, absolute(target), keys[name], handed),
                marks=desk.marks,
            )
            for number, (name, call) in enumerate(calls.items())
        ]
        here = any(_has_path(call.keywords) for call in calls.values())
        files = dict(zip(calls, desk.run(f"{what} {' and '.join(inputs)}", errands, here), strict=True))
        handing.bring(target, {file for file, _ in files.values()}.__contains__)
        for file, size in files.values():
            _wait_for(target / file, size, desk.pool().file_s)
        return {name: target / file for name, (file, _) in files.items()}

    def _files(self, inputs: Mapping[str, Sequence[str]], name: str) -> list[tuple[Path, tuple[str, ...]]]:
        return [(absolute(self.inputs[stage].file(name)), tuple(columns)) for stage, columns in inputs.items()]

    def grouped(
        self, stage: str, columns: Sequence[str], function: Callable[[Iterator[pa.Table], Any], R], argument: Any
    ) -> list[R]:
        folder = self.inputs[stage]
        names, rows = folder.shards.column("name"), folder.shards.column("rows")
        if self.desk is None:
            return [function((table for _, table in self.tables(stage, columns)), argument)]
        size = max(-(-len(names) // GROUPS), 1)
        errands = [
            Errand(
                label=f"{self.desk.title}-sums-{stage}-{names[start]}",
                number=start,
                rows=sum(rows[start : start + size]),
                call=partial(_summed, absolute(folder.path), names[start : start + size], columns, function, argument),
                marks=self.desk.marks,
            )
            for start in range(0, len(names), size)
        ]
        return self.desk.run(f"summing up {stage}", errands)

    def each(self, what: str, function: Callable[[Any], R], arguments: Sequence[Any]) -> list[R]:
        desk = self._desk()
        label = f"{desk.title}-{what.replace(' ', '-')}"
        calls = [partial(function, _from_here(argument)) for argument in arguments]
        errands = [Errand(f"{label}-{number}", number, 1, call) for number, call in enumerate(calls)]
        return desk.run(what, errands, here=True)

    def _desk(self) -> Desk:
        assert self.desk is not None, "only an index may ask for it"
        return self.desk


def here(folder: Path) -> Desk:
    """A desk in this process, whose files lie below the folder."""
    return Desk("here", Inline, folder / "gathered", folder / "room", "", plain=True)


def run_errand(errand: Errand) -> Any:
    """Raises MachineError for what this machine lacks."""
    keep_freed_memory()
    try:
        scratch.attend(errand.marks)
        return errand.call()
    except (PairloomError, OSError, MemoryError, RuntimeError) as error:
        if lack := of_the_machine(error, errand.label):
            raise lack from error
        raise


def _written(
    files: Sequence[tuple[Path, Sequence[str]]],
    function: Callable[..., pa.Table],
    target: Path,
    key: str,
    handed: bool,
) -> tuple[str, int]:
    """Name and size of the Arrow file with what the function makes of these columns of a shard's files.

    handed: whether it goes to the bucket behind its folder, too, where one lies there.

    The name has the sum of the content, so that it need not reach the disk at once: 10 ms a file would be most of it.
    """
    made = function(*(linking.read_columns(file, columns) for file, columns in files)).combine_chunks()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, made.schema) as stream:
        stream.write_table(made)
    content = sink.getvalue()
    name = f"{key}{SUM}{xxhash.xxh3_64_hexdigest(content)}.arrow"
    temporary = target / f".{name}.{uuid.uuid4().hex}.tmp"
    try:
        target.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        temporary.replace(target / name)
    finally:
        temporary.unlink(missing_ok=True)
    if handed:
        scratch.put(target / name)
    return name, content.size


def _intact(folder: Path, keys: Set[str]) -> dict[str, Path]:
    """The files of these keys that are there and hold what their names say."""
    there = os.listdir(folder) if folder.is_dir() else ()
    found = {name.partition(SUM)[0]: folder / name for name in there if name.partition(SUM)[0] in keys}
    return {key: path for key, path in found.items() if _sum_of(path) == path.stem.partition(SUM)[2]}


def _sum_of(path: Path) -> str:
    if not path.stat().st_size:
        return ""  # which cannot be mapped
    with path.open("rb") as file:
        return xxhash.xxh3_64_hexdigest(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _summed(
    folder: Path,
    names: Sequence[str],
    columns: Sequence[str],
    function: Callable[[Iterator[pa.Table], Any], R],
    argument: Any,
) -> R:
    return function((linking.read_columns(folder / f"{name}.parquet", columns) for name in names), argument)


def _from_here(argument: Any) -> Any:
    """With the paths of Configs and of other arguments from the root: a worker may have started in another folder."""
    if isinstance(argument, Path):
        return absolute(argument)
    if is_dataclass(argument) and not isinstance(argument, type):
        own = {each.name: _from_here(getattr(argument, each.name)) for each in fields(argument)}
        return resolved(replace(argument, **own), absolute(Path()))
    return argument


def _has_path(argument: Any) -> bool:
    """Whether it names a file of this machine. Those of a Config are texts, and lie on every machine."""
    if isinstance(argument, Mapping):
        return any(map(_has_path, argument.values()))
    if is_dataclass(argument) and not isinstance(argument, type):
        return any(_has_path(getattr(argument, each.name)) for each in fields(argument))
    return isinstance(argument, Path)


def _wait_for(path: Path, size: int, patience_s: float) -> None:
    """Return when the file is here as the worker wrote it. Raises StoreError if it does not come."""
    deadline = time.monotonic() + patience_s
    while not (path.is_file() and path.stat().st_size == size):
        if time.monotonic() > deadline:
            raise StoreError(
                f"a worker reports {path.name} as written with {size:,} bytes, and here it is not",
                where=str(path),
                fix="give all machines one shared folder under the same path, and run the same command again",
            )
        os.listdir(path.parent)  # makes a network file system look again
        time.sleep(PAUSE_S)
