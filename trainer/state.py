"""The state of a training before its end: a killed run goes on from there, to the same weights bit by bit.

All that changes from step to step is in it; what is random is a function of (seed, step) and needs no state.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from pairloom.errors import InputError
from pairloom.loader import Loader
from pairloom.loader.batch import Batch
from pairloom.store.hashed import sha256_file
from pairloom.unpickle import DAMAGED
from trainer.history import History
from trainer.learner import Learner

SEAL = b"\npairloom sha256 "  # then the digest in hex, at the end of the file
# What torch raises, by where a file is damaged
UNREADABLE = (OSError, *DAMAGED)


@dataclass
class Run:
    """What a step changes."""

    learner: Learner
    optimiser: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    scaler: torch.amp.GradScaler
    loader: Loader[Batch]
    history: History

    def state(self) -> dict[str, Any]:
        return {
            "learner": self.learner.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "loader": self.loader.state_dict(),
            "history": self.history.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.learner.load_state_dict(state["learner"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        self.scaler.load_state_dict(state.get("scaler", {}))  # older ones have none, and none in float16
        self.loader.load_state_dict(state["loader"])
        self.history.restore(state["history"])


@dataclass
class Keeper:
    """A file with the state, written every so often, of a training with these settings and no others."""

    path: Path
    settings: dict[str, Any]
    every_s: float
    _saved: float = field(default_factory=time.monotonic)

    def restore(self, run: Run) -> int:
        """Steps that are done already: 0 where there is no state, or one of other settings, which is told."""
        if not self.path.exists():
            return 0
        refuse_damaged(self.path)
        try:
            found = torch.load(self.path, map_location="cpu", weights_only=True)
            before = found["settings"]
        except UNREADABLE as error:
            raise InputError(f"the saved state cannot be read: {error}", str(self.path), "remove it") from error
        other = sorted(key for key in self.settings if before.get(key) != self.settings[key])
        if other:
            print(f"{self.path} is of other settings ({', '.join(other)}): it starts at step 0", file=sys.stderr)
            return 0
        run.restore(found["run"])
        print(f"{self.path}: training resumes after step {found['step']}", file=sys.stderr)
        return int(found["step"])

    def save_if_due(self, run: Run, step: int) -> None:
        """step: how many are done. The file is put in place in one go, so that a kill leaves the one before."""
        if time.monotonic() - self._saved < self.every_s:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_suffix(".part")
        torch.save({"step": step, "settings": self.settings, "run": run.state()}, part)
        seal(part)
        part.replace(self.path)
        self._saved = time.monotonic()


def seal(file: Path) -> None:
    """Append the file's SHA-256. torch finds its archive before it, and reads flipped bits as other weights."""
    digest = sha256_file(file)
    with file.open("ab") as stream:
        stream.write(SEAL + digest.encode())


def refuse_damaged(file: Path) -> None:
    """Raise InputError if a sealed file is not what was written; earlier releases sealed none."""
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


def beside(out: Path) -> Path:
    """Where the state is kept until the checkpoint folder `out` is written; not in it, DVC clears that before a run."""
    return out.with_name(f"{out.name}.state.pt")
