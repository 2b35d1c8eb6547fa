"""What a loader's processes tell each other: which batch to make, and what came of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from pairloom.loader.buffers import Empty
from pairloom.table import Array


@dataclass(frozen=True)
class Facts:
    """How a batch was made: seconds of the process that made it, and the damage that it met."""

    read_s: float
    decode_s: float
    collate_s: float
    damaged: Mapping[str, str]  # row group, or row -> what is wrong with it


@dataclass(frozen=True)
class Made:
    """A batch, and how it was made."""

    job: Job
    batch: Any  # a Batch or a ColumnBatch
    facts: Facts


@dataclass(frozen=True)
class Job:
    """A batch to make. A function of its step alone."""

    step: int
    after: int  # the step that follows
    objective: str
    positions: Array  # in the stream, of the global batch's rows
    real: Array  # bool of each, False: only fills the batch up
    own: range  # this rank's part of them
    longest: tuple[int, int] | None = None  # words and units that no row exceeds, in batches of so many tokens


class Maker(Protocol):
    """What makes batches. Pickled once for each worker."""

    def jobs(self, first: int) -> Iterator[Job]:
        """From this step on, without end. Called in the main process alone."""

    def __call__(self, job: Job, empty: Empty) -> Made: ...
