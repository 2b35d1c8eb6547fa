"""What a stage module must offer, and what it may. The executor knows stages only through this file.

A stage is a module or package `stages/<name>` with:

    INPUTS: tuple[str, ...]     the stages whose tables it reads, shard by shard
    OUTPUT: Table               the table it writes
    VERSION: int                raise it when the same input and config give other bytes
    Config                      a frozen, hashable dataclass, the section <name> of params.yaml. A field that cannot
                                change the output has the metadata {"affects_output": False}, and one that names a
                                file A_PATH, so that a worker that started in another folder finds it
    setup(config, folder)       -> tools: what is loaded once a worker (a model, an index)
    process(*inputs, tools)     -> table, or (table, rejects): one pa.Table for each of INPUTS

and, where it needs them:

    inputs(config)              -> INPUTS, and further ones that the settings ask for
    ASKS: tuple[str, ...]       with `inputs`: all further ones that it may name
    ASKING: tuple[str, ...]     with `inputs`: the fields of Config that it looks at, if these are few. They must stand
                                in params.yaml: DVC then reruns the stages that they may ask for after a change of
                                these alone, and of no other setting
    COLUMNS: dict               input stage -> the columns of it that `process` reads; without an entry it gets all.
                                A quarantined row has only these. Pictures that nobody looks at cost most of the reading
    SCOPE                       which input shards shard N depends on: "shard" (N alone; the default),
                                "before" (all up to N) or "all"
    scope(config)               -> another SCOPE, where the settings decide it
    index(corpus, config, folder)     writes what `setup` opens to `folder`, from the whole corpus: workers read it
                                shard by shard (`Corpus.gathered`), and this puts together what they found
    grow(corpus, config, folder, before)    -> whether it did the same from what it wrote before, having found that the
                                corpus has only grown; asked before `index`
    plan(corpus, config)        -> for a stage that cuts shards anew: windows of input shards, and the output shards
                                that hold their rows
    deal(read, window, config)  -> with `plan`: of each of these output shards its rows, as places in the window's input
                                shards one after the other; asked where they are made
    resources(config)           -> files outside the tables that decide the result, such as a checkpoint
    summary(corpus)             -> plain facts of the finished table, for the metrics. The corpus has it under the
                                stage's own name, and what was left out as `quarantine`. Kept as long as neither changes
    check(counts, config, rejects)    raises RunError when a finished stage kept too little; rejects: its quarantine
                                tables, read one by one as they are asked for
    recall(settings, folder)    -> of how many rows it knows what became of them from shards that are being made again;
                                as they were, these lie in folder/EARLIER/<n>/table and /quarantine until the table is
                                finished, the latest under the largest n. settings: the Config as the manifest has it
    reads_pictures(config)      -> False where it does not look at pictures that its input holds as links, else it gets
                                their bytes
    OVERLAP                     how many shards a worker has in work at once, each in a thread of its own: for a stage
                                that waits more than it computes
    wants_gpu(config)           -> whether these settings compute on a GPU where there is one: on a cluster whose
                                workers declare `--resources GPU=1` its shards go to those alone
    DISTINCT                    True where no image comes twice in its table, whatever its input holds. The tables that
                                are made of it have each image once, too
    TAKES: dict                 a field of Config -> the setting of another section, such as "shards.seed", whose value
                                it has unless it is set itself
    ASKED_BY: dict              beginning of a column's name -> the setting that makes the stage write it, where the
                                default leaves it null

A Config with a field `workers` is told by the executor over how many processes the work is spread. A stage may keep
what it has finished of a shard, so that a killed run need not do it again, in folder/PARTIAL/<shard>. The executor
deletes that when the shard is on disk. Since the list may change after a kill, each thing in it must say what it is of.

`process` knows nothing of files, Dask, DVC or retries. It must depend on its rows alone: the executor may run
it on any part of a shard to find a row that makes it fail, and puts that row in the quarantine table. Input
tables have the name of their shard in their schema's metadata, as `shard` (not for a stage with `plan`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

import pyarrow as pa

from pairloom.table import Array, Table

PARTIAL = "partial"  # in a stage's folder: what is finished of shards that are not
EARLIER = "earlier"  # there, too: shards that are being made again, as they were
# Key of a Config field's metadata: it names a file or folder of this machine, always or where a function says so.
IS_PATH = "is_path"
A_PATH = {IS_PATH: True}


def kept_in(dataset: Path) -> Path:
    """Where a dataset keeps what may be made again and outlives a growing list, such as indexes of tars."""
    return dataset / ".index" / "kept"


def kept(folder: Path) -> Path:
    """The same, from the folder of a stage's index: <dataset>/.index/<stage>/<fingerprint>."""
    return kept_in(folder.parents[2])


Scope = Literal["shard", "before", "all"]
Result: TypeAlias = pa.Table | tuple[pa.Table, pa.Table]


class Shards(Protocol):
    """All input shards of a stage, for `plan`."""

    def tables(
        self, stage: str, columns: Sequence[str], shards: Collection[str] | None = None
    ) -> Iterator[tuple[str, pa.Table]]:
        """(shard name, its table with these columns), in shard order, one at a time; of these shards, if not all."""

    def hashes(self, stage: str) -> dict[str, str]:
        """shard name -> SHA-256 of the file of each shard, in shard order."""

    def sizes(self, stage: str) -> dict[str, int]:
        """shard name -> bytes on disk of each shard."""


class Corpus(Shards, Protocol):
    """The same for `index` and `summary`, which let workers read them."""

    def gathered(
        self,
        inputs: Mapping[str, Sequence[str]],
        function: Callable[..., pa.Table],
        argument: Any,
        shards: Collection[str] | None = None,
    ) -> dict[str, Path]:
        """shard name -> an Arrow file with function(its table of each input, argument=…), in shard order.

        inputs: stage -> the columns that are read. Workers make the files. They are kept as long as the shard and the
        stage's version and settings are the same, so that of a list that has grown what is new is read alone.
        function: of a module. To be given another name where the same input comes to give other columns. argument: its
        settings.
        """

    def answers(
        self, inputs: Mapping[str, Sequence[str]], function: Callable[..., pa.Table], arguments: Mapping[str, Any]
    ) -> dict[str, Path]:
        """The same for some shards, each with an argument of its own. The files go when the index is made."""

    def grouped(
        self, stage: str, columns: Sequence[str], function: Callable[[Iterator[pa.Table], Any], Any], argument: Any
    ) -> Iterator[Any]:
        """function(the tables of some shards one by one, argument), for parts of the corpus in order, on workers."""

    def each(self, what: str, function: Callable[[Any], Any], arguments: Sequence[Any]) -> list[Any]:
        """function(argument) of each, on workers, in order; what: to be said of it."""

    def folders(
        self, what: str, function: Callable[[Any, Path], None], arguments: Mapping[str, Any], into: Path | None = None
    ) -> dict[str, Path]:
        """name -> the folder that function(argument, folder) filled, on workers.

        It is whole or not there, and one that an interrupted run has finished is not made again. names: paths below
        `into`, a folder of the index. Without it the folders go when the index is made. arguments: their paths are
        files of this process, files that were gathered (`Listed`), or folders of an earlier call.
        """


@dataclass(frozen=True)
class Before:
    """The last finished run of a stage with the same settings, for `grow`. The files are replaced, never changed."""

    index: Path  # the folder that `index` or `grow` wrote
    table: Path  # the folder of the table that was made with it


@dataclass(frozen=True)
class Counts:
    """What a finished stage did, over all its shards."""

    rows_in: int
    rows_out: int
    rejected: Mapping[str, int]  # reason -> rows


@dataclass(frozen=True)
class Window:
    """Input shards whose rows a stage deals out to output shards of their own. One task reads them and writes these."""

    shards: tuple[str, ...]  # of the inputs
    parts: tuple[tuple[str, int], ...]  # the output shards: name, rows
    facts: str = ""  # what `deal` must know besides


class ReadShard(Protocol):
    """Some columns of one input shard."""

    def __call__(self, stage: str, name: str, columns: Sequence[str], /) -> pa.Table: ...


class Stage(Protocol):
    """The module of a stage; tests/stages/test_contract.py assigns each to it, and to the parts below that it has."""

    @property
    def INPUTS(self) -> tuple[str, ...]: ...  # noqa: N802  # a module's constant

    OUTPUT: Table
    VERSION: int
    Config: type[Any]

    def setup(self, config: Any, folder: Path, /) -> Any: ...

    @property
    def process(self) -> Callable[..., Result]: ...


class Asking(Protocol):
    """Its settings may ask for further inputs."""

    @property
    def ASKS(self) -> tuple[str, ...]: ...  # noqa: N802  # a module's constant

    def inputs(self, config: Any, /) -> tuple[str, ...]: ...


class AskingByFew(Asking, Protocol):
    """Few of its settings may do so."""

    @property
    def ASKING(self) -> tuple[str, ...]: ...  # noqa: N802  # a module's constant


class Sparing(Protocol):
    """It reads some columns of an input and no others."""

    @property
    def COLUMNS(self) -> Mapping[str, Sequence[str]]: ...  # noqa: N802  # a module's constant


class Scoped(Protocol):
    """Its shard N depends on more than shard N of its inputs."""

    @property
    def SCOPE(self) -> Scope: ...  # noqa: N802  # a module's constant


class ScopedBySettings(Scoped, Protocol):
    """Its settings decide on how many shards of its inputs its shard N depends."""

    def scope(self, config: Any, /) -> Scope: ...


class Indexing(Protocol):
    """It reads the whole corpus once."""

    def index(self, corpus: Corpus, config: Any, folder: Path, /) -> None: ...


class Growing(Indexing, Protocol):
    """It can make the index of a list that has only grown from the one before."""

    def grow(self, corpus: Corpus, config: Any, folder: Path, before: Before, /) -> bool: ...


class Planning(Protocol):
    """It cuts shards anew."""

    def plan(self, corpus: Shards, config: Any, /) -> Sequence[Window]: ...

    def deal(self, read: ReadShard, window: Window, config: Any, /) -> Sequence[Array]: ...


class Resourceful(Protocol):
    """Files outside the tables decide its result."""

    def resources(self, config: Any, /) -> Sequence[Path]: ...


class Linking(Protocol):
    """Its settings decide whether it reads pictures that are linked; without this a stage gets their bytes."""

    def reads_pictures(self, config: Any, /) -> bool: ...


class Summing(Protocol):
    """It says more of its table than counts."""

    def summary(self, corpus: Corpus, /) -> dict[str, Any]: ...


class Checking(Protocol):
    """It refuses to have kept too little."""

    def check(self, counts: Counts, config: Any, rejects: Iterable[pa.Table], /) -> None: ...


class Recalling(Protocol):
    """It takes rows over from shards that are being made again."""

    def recall(self, settings: Mapping[str, Any], folder: Path, /) -> int: ...


class Overlapping(Protocol):
    """A worker has several of its shards in work at once."""

    OVERLAP: int


class Accelerated(Protocol):
    """It computes on a GPU where there is one."""

    def wants_gpu(self, config: Any, /) -> bool: ...


class Merging(Protocol):
    """No image comes twice in its table, whatever its input holds."""

    DISTINCT: bool


class Taking(Protocol):
    """It follows settings of other sections."""

    @property
    def TAKES(self) -> Mapping[str, str]: ...  # noqa: N802  # a module's constant


class Advising(Protocol):
    """Columns of its table are null unless a setting asks for them."""

    @property
    def ASKED_BY(self) -> Mapping[str, str]: ...  # noqa: N802  # a module's constant
