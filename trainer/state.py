"""The state of a training before its end: a killed run goes on from there, to the same weights bit by bit.

All that changes from step to step is in it. What is random is a function of (seed, step) and needs no state.
"""

from __future__ import annotations

import glob
import hashlib
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from devices import ranks
from devices.parallel import Shared, load_optimiser, load_weights, whole
from pairloom.errors import ConfigError, InputError
from pairloom.loader.batch import Batch
from pairloom.store.hashed import sha256_file
from pairloom.unpickle import DAMAGED
from trainer.average import Average
from trainer.history import History
from trainer.learner import Learner
from trainer.trials import Trials

SEAL = b"\npairloom sha256 "  # then the digest in hex, at the end of the file
# What torch raises, by where a file is damaged
UNREADABLE = (OSError, *DAMAGED)


class Batches(Protocol):
    """What is trained on: the loader, or what reads a file of examples."""

    @property
    def prepare(self) -> Any: ...  # has rank and ranks

    def __iter__(self) -> Iterator[Batch]: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any], /) -> None: ...


@dataclass
class Run:
    """What a step changes."""

    learner: Learner
    optimiser: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    scaler: torch.amp.GradScaler
    loader: Batches
    history: History
    shared: Shared
    average: Average | None = None
    trials: Trials | None = None

    def state(self) -> dict[str, Any]:
        """A copy, with every tensor in one piece. All ranks call it where the weights lie in pieces."""
        tensors = {
            "learner": self.learner.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
        } | ({} if self.average is None else {"average": self.average.tensors})
        tests = {} if self.trials is None else {"tests": list(self.trials.found)}
        return {**whole(tensors), "loader": self.loader.state_dict(), "history": self.history.state(), **tests}

    def restore(self, state: dict[str, Any]) -> None:
        load_weights(self.learner, state["learner"])
        load_optimiser(self.optimiser, state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        self.scaler.load_state_dict(state.get("scaler", {}))  # older ones have none, and none in float16
        self.loader.load_state_dict(state["loader"])
        self.history.restore(state["history"])
        if self.average is not None:
            self.average.restore(state["average"])
        if self.trials is not None:
            self.trials.found = list(state.get("tests", []))


class Keeper:
    """Files with the state, one every so often, of a training with these settings and no others. The first rank's.

    out: the checkpoint folder that will be written. last: so many files are kept. resume: `auto` takes the newest file
    that is whole, `never` none, and a path that file alone.
    """

    def __init__(
        self, out: Path, settings: dict[str, Any], every_s: float = 0.0, last: int = 2, resume: str = "auto"
    ) -> None:
        self.out, self.settings, self.every_s, self.last, self.resume = out, settings, every_s, last, resume
        self._saved, self._own = time.monotonic(), list[Path]()
        self._thread, self._writing = ThreadPoolExecutor(1, "state"), Future[None]()
        self._writing.set_result(None)

    def restore(self, run: Run) -> int:
        """Steps that are done already: 0 where there is no state, or one of other settings, which is told."""
        found = None if self.resume == "never" else self._newest()
        if found is None:
            return 0
        path, document = found
        before = document["settings"]
        other = sorted(key for key in before.keys() | self.settings if before.get(key) != self.settings.get(key))
        if other and self.resume != "auto":
            raise ConfigError(f"the state is of other settings ({', '.join(other)})", str(path), "--resume auto")
        if other:
            print(f"{path} is of other settings ({', '.join(other)}): it starts at step 0", file=sys.stderr)
            return 0
        run.restore(document["run"])
        self._own = [one for one in reversed(beside(self.out)) if step_of(one) <= document["step"]]
        print(f"{path}: training resumes after step {document['step']}", file=sys.stderr)
        return int(document["step"])

    def _newest(self) -> tuple[Path, dict[str, Any]] | None:
        """The newest state that can be read. Raises InputError if there are some, but none of them can be."""
        paths = beside(self.out) if self.resume == "auto" else [Path(self.resume)]
        damaged: list[InputError] = []
        for path in paths:
            try:
                return path, read(path)
            except InputError as error:
                damaged.append(error)
                print(f"{path} is damaged: the state before it is tried", file=sys.stderr)
        if damaged:
            raise damaged[0]
        return None

    def save_if_due(self, run: Run, step: int) -> None:
        """step: how many are done. All ranks call it. It is written while the training goes on."""
        due = time.monotonic() - self._saved >= self.every_s
        if run.shared.in_pieces:
            due = ranks.of_first(due, next(run.learner.parameters()).device)
        elif ranks.number():
            return
        if not due:
            return
        self._writing.result()  # raises what stopped the one before
        self._saved = time.monotonic()
        document = {"step": step, "settings": self.settings, "run": run.state()}
        if not ranks.number():
            self._writing = self._thread.submit(self._write, document)

    def _write(self, document: dict[str, Any]) -> None:
        """The file is put in place in one go, so that a kill leaves those before."""
        path = self.out.with_name(f"{self.out.name}.state-{document['step']:08}.pt")
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        torch.save(document, part)
        seal(part)
        part.replace(path)
        self._own = [*(one for one in self._own if one != path), path][-self.last :]
        for one in beside(self.out):
            if one not in self._own:
                one.unlink(missing_ok=True)

    def close(self) -> None:
        """Wait until what is being written is there."""
        self._thread.shutdown()
        self._writing.result()


def read(path: Path) -> dict[str, Any]:
    """What a state's file holds. Raises InputError if it is not what was written."""
    try:
        refuse_damaged(path)
        found: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        found["settings"]
    except UNREADABLE as error:
        raise InputError(f"the saved state cannot be read: {error}", str(path), "remove it") from error
    return found


def seal(file: Path) -> None:
    """Append the file's SHA-256. torch finds its archive before it, and reads flipped bits as other weights."""
    digest = sha256_file(file)
    with file.open("ab") as stream:
        stream.write(SEAL + digest.encode())
        stream.flush()
        os.fsync(stream.fileno())


def refuse_damaged(file: Path) -> None:
    """Raise InputError if a sealed file is not what was written. Earlier releases sealed none."""
    length = len(SEAL) + 64
    with file.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - length))
        end = stream.read()
        if not end.startswith(SEAL):
            return
        stream.seek(0)
        digest = hashlib.sha256()
        left = size - length
        while left:
            piece = stream.read(min(left, 1 << 24))
            digest.update(piece)
            left -= len(piece)
    if digest.hexdigest().encode() != end[len(SEAL) :]:
        fix = "remove it, and the training begins at step 0; or take it from a copy"
        raise InputError("the saved state is not what was written", str(file), fix)


def beside(out: Path) -> list[Path]:
    """The states of the training that will write the folder `out`, newest first.

    They lie beside it until it is written. They do not lie in it, since DVC clears that before a run.
    """
    return sorted(out.parent.glob(f"{glob.escape(out.name)}.state*.pt"), key=step_of, reverse=True)


def step_of(path: Path) -> int:
    """After how many steps a state was written, by its name. 0 for those of earlier releases, which have none."""
    number = path.stem.rpartition("-")[2]
    return int(number) if number.isdecimal() else 0
