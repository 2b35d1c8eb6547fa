"""Shards whose worker died: each is tried again alone, then halved until the rows that kill are found, or it stops.

What kills every process (no memory, a broken library) must end the run, not put every row into quarantine.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from pairloom.errors import RunError
from pipeline.pool import Died, Pool, R
from pipeline.progress import say
from pipeline.task import Task, alone, probe, run_task
from pipeline.written import Made

Span = tuple[int, int]
SHARE = 10  # of the rows of a shard, one in so many may be deadly
LEAST = 2  # deadly rows that a shard may always have
SHARDS = 8  # with deadly rows, from which on most shards must be without
TRIES = 5  # of a shard without its deadly rows: its worker may be killed by others
FIX = (
    "no single row is the cause: give the workers more memory or run fewer on a machine, make shards smaller "
    "(sample.rows_per_shard), look at the kernel's log (`dmesg`) and the workers', and run the same command again"
)


class TooManyDieError(Exception):
    """More spans kill their process than rows may."""


@dataclass
class Inquiry:
    """Looks into suspects on a pool where nothing else runs."""

    pool: Pool
    sizes: Mapping[str, int]  # rows of each shard
    ready: Callable[[Task], Task]
    sound: int = 0  # shards that were made without such rows, also by others
    guilty: int = 0  # shards with deadly rows
    last: str = ""  # what is known of the last death

    def made(self, suspects: Sequence[Task]) -> Iterator[Made]:
        """The shards, made. Rows that kill are in their quarantine. Raises RunError if no row seems to be the cause."""
        again = []
        for task, result in self._alone(run_task, suspects):
            if isinstance(result, Died):
                again.append(task)
            else:
                self.sound += len(result)
                yield from result
        for task in sorted((one for each in again for one in alone(each)), key=lambda each: each.name):
            yield from self._without_killers(task)

    def _alone(self, function: Callable[[Task], R], tasks: Iterable[Task]) -> Iterator[tuple[Task, R | Died]]:
        for task, result in self.pool.run(function, deque(tasks), self.ready, alone=True):
            self.last = result.detail if isinstance(result, Died) else self.last
            yield task, result

    def _without_killers(self, task: Task) -> list[Made]:
        say(f"{task.label}: it killed its worker twice; looking for the rows that do")
        rows = self.sizes[task.name]
        self._refuse_without_rows(task)
        most = max(LEAST, rows // SHARE)
        try:
            killers = find_killers(lambda spans: self._survive(task, spans), rows, most)
        except TooManyDieError as error:
            raise self._stop(task, f"more than {most} of its {rows} rows kill their worker") from error
        self.guilty += bool(killers)
        if self.guilty > max(SHARDS, self.sound):
            raise self._stop(task, f"it is the {self.guilty}th shard with rows that kill their worker")
        for _ in range(TRIES):
            for _, result in self._alone(run_task, [replace(task, killers=tuple(killers))]):
                if not isinstance(result, Died):
                    return result
        raise self._stop(task, "the shard kills its worker although no single row of it does")

    def _refuse_without_rows(self, task: Task) -> None:
        """Raise RunError if the worker dies without any row, as it loads what the stage needs."""
        if not self._survive(task, [(0, 0)])[0] and not self._survive(task, [(0, 0)])[0]:
            raise self._stop(task, "the worker dies even without a row, while it loads what the stage needs")

    def _survive(self, task: Task, spans: Sequence[Span]) -> list[bool]:
        """Whether a process survives each of these spans."""
        probes = [replace(task, span=span) for span in spans]
        found = {each.span: not isinstance(result, Died) for each, result in self._alone(probe, probes)}
        return [found[span] for span in spans]

    def _stop(self, task: Task, what: str) -> RunError:
        return RunError(f"{task.label}: {what}; the last: {self.last}", str(task.places.table), FIX)


def find_killers(survive: Callable[[Sequence[Span]], Sequence[bool]], rows: int, most: int) -> list[int]:
    """The rows of 0..rows that kill alone, in order, by halving every span that does not survive.

    survive: whether each of these spans does. A row that kills alone is tried twice, since its process may have been
    killed by others. Raises TooManyDieError as soon as more than `most` spans beside each other kill.
    """
    spans = [(0, rows)] if rows else []
    killers: list[int] = []
    while spans:
        dead = [span for span, lives in zip(spans, survive(spans), strict=True) if not lives]
        single = [span for span in dead if span[1] - span[0] == 1]
        if single:
            sure = survive(single)
            killers += [span[0] for span, lives in zip(single, sure, strict=True) if not lives]
        wide = [span for span in dead if span[1] - span[0] > 1]
        if len(killers) + len(wide) > most:
            raise TooManyDieError
        spans = [half for start, stop in wide for half in ((start, (start + stop) // 2), ((start + stop) // 2, stop))]
    return sorted(killers)
