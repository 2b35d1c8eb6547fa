"""The workers of a Dask cluster as they are now: who has come, who may be used and why not, who is gone."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError  # as distributed raises it
from dataclasses import dataclass, field
from typing import Any, Protocol

from pairloom.errors import RunError
from pipeline.progress import say

GPU = "GPU"  # the resource that a worker with a card declares
SETTLE_S = 20.0  # how long the first workers may take to answer before others start without them
ANSWER_S = 2.0  # for an answer to arrive
MOST_DIED = 3  # workers that may die one after the other while they are greeted
LEAVING = ("closing", "closing_gracefully", "closed")


@dataclass(frozen=True)
class Worker:
    """One process of the cluster, as its scheduler describes it."""

    address: str
    directory: str  # its own, another after each start: an address may be used again
    name: str
    threads: int
    gpus: float
    status: str  # running, paused, closing_gracefully, …
    executing: int  # tasks, as of its last heartbeat
    memory_limit: int  # bytes, 0 for none

    @property
    def key(self) -> tuple[str, str]:
        return self.address, self.directory

    @property
    def limit(self) -> str:
        """Its memory limit, for a message. "" without one."""
        return f" (its memory limit is {self.memory_limit / 2**30:.2g} GiB)" if self.memory_limit else ""


class Greeter(Protocol):
    """Finds out whether a worker may be used."""

    def call(self, worker: Worker) -> bytes:
        """A pickle whose loading on the worker is the greeting."""

    def judge(self, answer: Any) -> str | None:
        """What is wrong with a worker that answers so. "" for nothing, None for not known yet."""


class Call:
    """Pickles as a call: whoever loads it calls the function, and needs nothing of ours to carry it there."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.function, self.arguments


def pickled(function: Callable[..., Any], *arguments: Any) -> bytes:
    """What `pickle.loads` turns into the function's result. Neither the scheduler nor Dask must know our modules."""
    return pickle.dumps(Call(function, *arguments))


def workers_of(identity: Mapping[str, Any]) -> dict[tuple[str, str], Worker]:
    """From what a scheduler says of itself."""
    found = (
        Worker(
            address=address,
            directory=str(info.get("local_directory", "")),
            name=str(info["name"]),
            threads=int(info["nthreads"]),
            gpus=float(info.get("resources", {}).get(GPU, 0)),
            status=str(info.get("status", "running")),
            executing=int(info.get("metrics", {}).get("task_counts", {}).get("executing", 0)),
            memory_limit=int(info.get("memory_limit") or 0),
        )
        for address, info in identity["workers"].items()
    )
    return {worker.key: worker for worker in found}


@dataclass
class Crew:
    """Looks at the cluster when asked to. A worker is used once it was greeted and found to fit.

    wants_gpu: only workers that declare a GPU are used, where any does. Otherwise those without one are used first.
    """

    client: Any
    greeter: Greeter | None = None
    wants_gpu: bool = False
    present: dict[tuple[str, str], Worker] = field(default_factory=dict)
    refused: dict[tuple[str, str], str] = field(default_factory=dict)  # and why
    fit: set[tuple[str, str]] = field(default_factory=set)
    asked: dict[tuple[str, str], Any] = field(default_factory=dict)  # future of the answer
    with_card: set[tuple[str, str]] = field(default_factory=set)  # said that they see a GPU
    on_gpu: bool = False  # a GPU is wanted, and a worker with one was found
    died_greeted: int = 0  # in a row
    most: int = 0  # fit at once so far
    first_s: float | None = None  # when the first worker was seen

    def look(self, identity: Mapping[str, Any]) -> list[Worker]:
        """Take note of who is there. Returns the workers that were fit and are gone since."""
        now = workers_of(identity)
        gone = [worker for key, worker in self.present.items() if key not in now]
        lost = [worker for worker in gone if worker.key in self.fit]
        for worker in gone:
            self.fit.discard(worker.key)
            if (future := self.asked.pop(worker.key, None)) is not None:
                future.release()
                self.died_greeted += worker.status not in LEAVING
        came = [worker for key, worker in now.items() if key not in self.present]
        self.present = now
        if came and self.first_s is None:
            self.first_s = time.monotonic()
        for worker in came:
            self._greet(worker)
        self._judge()
        self.most = max(self.most, len(self.usable()))
        return lost

    def _greet(self, worker: Worker) -> None:
        if self.greeter is None:
            self.fit.add(worker.key)
            return
        self.asked[worker.key] = self.client.submit(
            pickle.loads,
            self.greeter.call(worker),
            key=f"hello-{worker.directory}-{worker.address}-{time.monotonic_ns()}",
            workers=[worker.address],
            allow_other_workers=False,
            priority=10,
        )

    def _judge(self) -> None:
        new: dict[str, list[str]] = {}
        for key, future in list(self.asked.items()):
            if future.status in ("cancelled", "lost"):  # with the connection to the scheduler
                self._greet(self.present[key])
                continue
            wrong = self._wrong(key, future)
            if wrong is None:
                continue
            del self.asked[key]
            self.died_greeted = 0
            if wrong:
                self.refused[key] = wrong
                new.setdefault(wrong, []).append(key[0])
            else:
                self.fit.add(key)
        for why, addresses in new.items():
            say(f"not used: {listed(addresses)}: {why}")

    def _wrong(self, key: tuple[str, str], future: Any) -> str | None:
        """As `Greeter.judge` of the answer, if there is one."""
        assert self.greeter is not None
        if future.status == "pending":
            return None
        if future.status == "error":
            return _cannot_load(future.exception())
        try:
            answer = future.result(timeout=ANSWER_S)
        except (OSError, CancelledError):  # it died with its answer, which the next look finds out, or a time-out
            return None
        if getattr(answer, "cards", 0):
            self.with_card.add(key)
        return self.greeter.judge(answer)

    def refuse(self, worker: Worker, why: str) -> None:
        """Use it no more."""
        self.fit.discard(worker.key)
        self.refused[worker.key] = why
        say(f"not used any more: {worker.address}: {why}")

    def usable(self) -> list[Worker]:
        """Those that may be given work now, since they are neither paused nor leaving."""
        return [worker for worker in self.chosen() if worker.status == "running"]

    def chosen(self) -> list[Worker]:
        """Those that are fit, and have a GPU or none as is wanted.

        Once a GPU was found only those with one are chosen: a table is not computed on both if that can be helped.
        """
        fit = [self.present[key] for key in self.fit if key in self.present]
        if not self.wants_gpu:
            return [worker for worker in fit if not worker.gpus] or fit
        declared = [worker for worker in fit if worker.gpus]
        found = declared or [worker for worker in fit if worker.key in self.with_card]
        if found and not self.on_gpu and self.most:
            say("a worker with a GPU has come: shards so far were made without one, and may differ in the last bits")
        self.on_gpu = self.on_gpu or bool(found)
        return found if self.on_gpu else fit

    def settled(self) -> bool:
        """Whether all that were asked have answered, or have had the time to."""
        if not self.present:
            return False
        return not self.asked or time.monotonic() - (self.first_s or 0.0) > SETTLE_S

    def hopeless(self) -> bool:
        """Whether every worker there is was refused, or none survives the greeting."""
        all_refused = bool(self.present) and all(key in self.refused for key in self.present)
        return all_refused or (self.died_greeted > MOST_DIED and not self.fit)

    def hopeless_error(self, where: str) -> RunError:
        """What to say of it."""
        refused = {self.refused[key]: key[0] for key in self.present if key in self.refused}
        if not refused:
            fix = "look at their logs (memory limit? a broken installation?), and start them again"
            return RunError(f"{self.died_greeted} workers died while they loaded the stage", where, fix)
        said = "\n".join(f"  {address}: {why}" for why, address in refused.items())
        fix = "start them with the same pairloom and packages, and with the dataset's folder under the same path"
        return RunError(f"none of the {len(self.present)} workers can be used:\n{said}", where, fix)


def _cannot_load(error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name in ("pipeline", "stages", "pairloom", "schemas"):
        return "pairloom is not installed there"
    return f"it cannot load pairloom or the stage: {type(error).__name__}: {error}"


def listed(names: list[str], most: int = 4) -> str:
    """The first of them, and how many more."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
