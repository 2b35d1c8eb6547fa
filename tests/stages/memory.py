"""A corpus in memory, as a stage's `index` and `plan` see one on disk."""

from __future__ import annotations

import shutil
import tempfile
import uuid
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa


class Here:
    """What a corpus lets workers do, in this process. Files lie in a folder that goes with the corpus."""

    def tables(
        self, stage: str, columns: Sequence[str], shards: Collection[str] | None = None
    ) -> Iterator[tuple[str, pa.Table]]:
        raise NotImplementedError

    def gathered(
        self,
        inputs: Mapping[str, Sequence[str]],
        function: Callable[..., pa.Table],
        argument: Any,
        shards: Collection[str] | None = None,
    ) -> dict[str, Path]:
        return {
            name: self._written(function(*tables, argument=argument)) for name, tables in self._beside(inputs, shards)
        }

    def answers(
        self, inputs: Mapping[str, Sequence[str]], function: Callable[..., pa.Table], arguments: Mapping[str, Any]
    ) -> dict[str, Path]:
        return {
            name: self._written(function(*tables, argument=arguments[name]))
            for name, tables in self._beside(inputs, arguments)
        }

    def _beside(
        self, inputs: Mapping[str, Sequence[str]], shards: Collection[str] | None
    ) -> Iterator[tuple[str, list[pa.Table]]]:
        every = [self.tables(stage, columns, shards) for stage, columns in inputs.items()]
        return ((found[0][0], [table for _, table in found]) for found in zip(*every, strict=True))

    def grouped(
        self, stage: str, columns: Sequence[str], function: Callable[[Iterator[pa.Table], Any], Any], argument: Any
    ) -> Iterator[Any]:
        return (function(iter([table]), argument) for _, table in self.tables(stage, columns))

    def each(self, what: str, function: Callable[[Any], Any], arguments: Sequence[Any]) -> list[Any]:
        return list(map(function, arguments))

    def folders(
        self, what: str, function: Callable[[Any, Path], None], arguments: Mapping[str, Any], into: Path | None = None
    ) -> dict[str, Path]:
        into = into or self._new_path()
        found = {name: into / name for name in arguments}
        for name, folder in found.items():
            folder.mkdir(parents=True)
            function(arguments[name], folder)
        return found

    def _new_path(self) -> Path:
        if not hasattr(self, "_room"):
            self._room = Path(tempfile.mkdtemp())
            weakref.finalize(self, shutil.rmtree, self._room)
        return self._room / uuid.uuid4().hex

    def _written(self, table: pa.Table) -> Path:
        path = self._new_path()
        with pa.ipc.new_stream(str(path), table.schema) as stream:
            stream.write_table(table.combine_chunks())
        return path


class InMemory(Here):
    """The shards of one stage's table, called 00000, 00001 …. Asking for another stage's fails, unless in `others`."""

    def __init__(self, stage: str, shards: Sequence[pa.Table]) -> None:
        self.stage = stage
        self.shards = {f"{number:05d}": shard for number, shard in enumerate(shards)}
        self.others: dict[str, dict[str, pa.Table]] = {}  # stage -> its shards, of the same names

    def tables(
        self, stage: str, columns: Sequence[str], shards: Collection[str] | None = None
    ) -> Iterator[tuple[str, pa.Table]]:
        for name, shard in (self.shards if stage == self.stage else self.others[stage]).items():
            if shards is None or name in shards:
                yield name, shard.select(list(columns))

    def hashes(self, stage: str) -> dict[str, str]:
        return {}

    def sizes(self, stage: str) -> dict[str, int]:
        return {name: shard.nbytes for name, shard in self.shards.items()}
