"""The inputs of a stage as its `index`, `plan` and `summary` see them (stages/contract.py): read here or by workers."""

from __future__ import annotations

import mmap
import os
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import xxhash

from pairloom.errors import StoreError
from pairloom.store import scratch
from pairloom.store.folder import Folder
from pipeline import folders, handing, linking
from pipeline.desk import Desk, Errand
from pipeline.fingerprints import digest
from pipeline.paths import absolute, with_paths

SUM = "-"  # in a file's name, before the sum of its content
GROUPS = 64  # parts of a table that are summed up by themselves
PAUSE_S = 0.2  # between two looks at a file that a worker wrote
R = TypeVar("R")


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
        desk, made = self._desk(), partial(function, argument=with_paths(argument, absolute))
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
        calls = {name: partial(function, argument=with_paths(arguments[name], absolute)) for name in names}
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
        here = any(any(folders.paths_in(call.keywords)) for call in calls.values())
        files = dict(zip(calls, desk.run(f"{what} {' and '.join(inputs)}", errands, here), strict=True))
        handing.bring(target, {file for file, _ in files.values()}.__contains__)
        for file, size in files.values():
            _wait_for(target / file, size, desk.pool().file_s)
        return {name: target / file for name, (file, _) in files.items()}

    def _files(self, inputs: Mapping[str, Sequence[str]], name: str) -> list[tuple[Path, tuple[str, ...]]]:
        return [(absolute(self.inputs[stage].file(name)), tuple(columns)) for stage, columns in inputs.items()]

    def grouped(
        self, stage: str, columns: Sequence[str], function: Callable[[Iterator[pa.Table], Any], R], argument: Any
    ) -> Iterator[R]:
        folder = self.inputs[stage]
        names, rows = folder.shards.column("name"), folder.shards.column("rows")
        if self.desk is None:
            return iter([function((table for _, table in self.tables(stage, columns)), argument)])
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
        return self.desk.one_by_one(f"summing up {stage}", errands)

    def each(self, what: str, function: Callable[[Any], R], arguments: Sequence[Any]) -> list[R]:
        desk = self._desk()
        label = f"{desk.title}-{what.replace(' ', '-')}"
        calls = [partial(function, with_paths(argument, absolute)) for argument in arguments]
        errands = [Errand(f"{label}-{number}", number, 1, call) for number, call in enumerate(calls)]
        return desk.run(what, errands, here=True)

    def folders(
        self, what: str, function: Callable[[Any, Path], None], arguments: Mapping[str, Any], into: Path | None = None
    ) -> dict[str, Path]:
        desk, label = self._desk(), what.replace(" ", "-")
        into = absolute(into or desk.room / label)
        found = {name: into / name for name in arguments}
        given = {name: with_paths(argument, absolute) for name, argument in arguments.items()}
        if desk.apart:
            folders.hand(given.values())
        errands = [
            Errand(
                label=f"{desk.title}-{label}-{name}",
                number=number,
                rows=1,
                call=partial(folders.make, folders.Making(function, given[name], target, absolute(desk.room))),
                marks=desk.marks,
            )
            for number, (name, target) in enumerate(found.items())
        ]
        for target, size in zip(found.values(), desk.run(what, errands), strict=True):
            folders.bring(target)
            _wait_for(folders.beside(target), size, desk.pool().file_s)
        return found

    def _desk(self) -> Desk:
        assert self.desk is not None, "only an index may ask for it"
        return self.desk


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
