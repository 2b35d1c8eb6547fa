"""What to say when no shard is finished for a while, and when a state is one that no waiting ends."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from pairloom.errors import RunError
from pipeline.crew import Crew, Worker, listed
from pipeline.progress import say


@dataclass(frozen=True)
class Patience:
    """Seconds to wait in each state."""

    look_s: float = 0.25  # between two looks at the cluster
    line_s: float = 30.0  # without a row until a line says why, doubled after each line
    gone_s: float = 300.0  # for new workers after all have gone
    refused_s: float = 15.0  # for another worker, while all that there are were refused
    paused_s: float = 120.0  # for memory, while every worker is paused and none works
    lost_s: float = 60.0  # for a scheduler that does not answer
    file_s: float = 30.0  # for a file that a worker has written to be seen here

    def at_most(self, seconds: float) -> Patience:
        """The same with no longer waits for workers or the scheduler."""
        short = {name: min(seconds, getattr(self, name)) for name in ("refused_s", "lost_s")}
        return replace(self, gone_s=seconds, **short)


@dataclass(frozen=True)
class InWork:
    """A task that was given to a worker."""

    label: str
    worker: Worker
    since: float  # time.monotonic()


@dataclass
class Watch:
    """Speaks up while nothing is finished. Tell it of progress, and ask it at each look at the cluster."""

    title: str
    address: str  # of the scheduler
    patience: Patience = field(default_factory=Patience)
    last: float = field(default_factory=time.monotonic)
    spoke: float = field(default_factory=time.monotonic)
    pause_s: float = 0.0
    states: dict[str, float] = field(default_factory=dict)  # state that nothing but the cluster ends -> since when

    def progress(self) -> None:
        self.last = self.spoke = time.monotonic()
        self.pause_s = self.patience.line_s

    def moved(self) -> None:
        """Rows came of a shard that is not finished yet."""
        self.spoke = time.monotonic()

    def look(self, crew: Crew, work: Sequence[InWork], waiting: int) -> None:
        """Say why nothing is finished, if it is time. Raises RunError in a state that has lasted too long."""
        now = time.monotonic()
        self._refuse_dead_end(crew, now)
        self.pause_s = self.pause_s or self.patience.line_s
        if now - self.spoke >= self.pause_s:
            say(f"{self.title}: no shard finished for {now - self.last:.0f} s: {self._why(crew, work, waiting, now)}")
            self.spoke = now
            self.pause_s *= 2 if work else 1

    def _why(self, crew: Crew, work: Sequence[InWork], waiting: int, now: float) -> str:
        if not crew.present:
            return f"no workers yet; start some with `dask worker {self.address} --nthreads 1`"
        if paused := _all_paused(crew):
            return f"every worker is paused: {_memory(paused)}"
        if not crew.fit:
            asked = listed([key[0] for key in crew.asked])
            return f"no worker has answered the greeting yet ({asked}); are they busy with other work?"
        if not crew.chosen():
            return f"none of {len(crew.fit)} workers has a GPU any more; start one with --resources GPU=1"
        if not work:
            return f"{waiting} shards wait for one of {len(crew.chosen())} workers"
        longest = min(work, key=lambda one: one.since)
        where = f"{longest.label} for {now - longest.since:.0f} s on {longest.worker.address}"
        more = f"; {waiting} wait" if waiting else ""
        return f"{len(work)} are with {len(crew.chosen())} workers, the longest {where}{more}"

    def _refuse_dead_end(self, crew: Crew, now: float) -> None:
        self._note("hopeless", crew.hopeless(), now)
        if self._lasted("hopeless", now) > self.patience.refused_s:
            raise crew.hopeless_error(self.address)
        paused = _all_paused(crew)
        stuck = bool(paused) and not any(worker.executing for worker in paused)
        self._note("gone", bool(crew.most) and not crew.chosen() and not crew.asked, now)
        self._note("paused", stuck, now)
        if self._lasted("gone", now) > self.patience.gone_s:
            raise RunError(
                f"all workers that could be used have gone, and none came for {self.patience.gone_s:.0f} s",
                self.address,
                "start workers, with a nanny (without --no-nanny) so that one that dies is started again, "
                "and run the same command again: finished shards are kept",
            )
        if self._lasted("paused", now) > self.patience.paused_s:
            raise RunError(
                f"every worker is paused, and none works: {_memory(paused)}",
                self.address,
                "start them with a larger --memory-limit, or 0 for none, or make shards smaller",
            )

    def _note(self, state: str, there: bool, now: float) -> None:
        if there:
            self.states.setdefault(state, now)
        else:
            self.states.pop(state, None)

    def _lasted(self, state: str, now: float) -> float:
        return now - self.states.get(state, now)


def _all_paused(crew: Crew) -> list[Worker]:
    """The workers that might be used, if Dask holds every one of them back because its memory is short."""
    ours = [worker for key, worker in crew.present.items() if key not in crew.refused]
    return ours if all(worker.status == "paused" for worker in ours) else []


def _memory(paused: Sequence[Worker]) -> str:
    limit = min(worker.memory_limit for worker in paused) / 2**30
    return f"memory is near the limit of {limit:.2g} GiB on {listed([worker.address for worker in paused])}"
