"""Work on a whole corpus, cut into errands for workers: run to the end, tried again where a worker dies."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pairloom.errors import PairloomError, RunError
from pairloom.machine import of_the_machine
from pairloom.store import scratch
from pipeline import handing
from pipeline.memory import keep_freed_memory
from pipeline.pool import Died, Inline, Pool
from pipeline.progress import Progress

TRIES = 3  # of an errand whose worker dies


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
        return list(self.one_by_one(what, errands, here))

    def one_by_one(self, what: str, errands: Sequence[Errand], here: bool = False) -> Iterator[Any]:
        """The same, each result as soon as all before it are there, so that few are in memory."""
        if not errands:
            return
        results: dict[int, Any] = {}
        waiting, tries, due = deque(errands), Counter[int](), deque(errand.number for errand in errands)
        pool = Inline() if here and self.apart else self.pool()
        with Progress(f"{self.title}: {what}", sum(each.rows for each in errands), plain=self.plain) as progress:
            while waiting:
                died = deque[Errand]()
                for errand, result in pool.run(run_errand, waiting, alone=bool(tries)):
                    if isinstance(result, Died):
                        died.append(errand)
                        self._refuse_deadly(errand, result, tries)
                        continue
                    results[errand.number] = result
                    progress.advance(errand.rows)
                    del result
                    while due and due[0] in results:
                        yield results.pop(due.popleft())
                waiting = died

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
