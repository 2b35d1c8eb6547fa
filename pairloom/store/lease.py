"""A lease in a bucket: the right to write a stage's tables, in the place of a file's lock.

Leases of a stage are objects with rising numbers. Who wants one creates the next number, which one writer alone can
do, and beats by writing to its own object. Who finds another's looks whether it beats: no clock of two machines is
compared. A holder that was away for longer finds a higher number and stops.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pairloom.errors import PairloomError, RunError, StoreError
from pairloom.store.bucket import Bucket

LEASES = ".locks"  # the folder of a dataset where they lie
BEAT_S = 5.0  # between two beats
TERM_S = 30.0  # without a beat after which a holder counts as dead
LOOK_S = 0.5
DIGITS = 9


@dataclass(frozen=True)
class Lease:
    """What a lease's object says."""

    run: str
    host: str
    pid: int
    system: str  # the boot and the namespace in which the pid means something
    beat: int = 0
    ended: bool = False

    @classmethod
    def mine(cls) -> Lease:
        return cls(uuid.uuid4().hex, socket.gethostname(), os.getpid(), _system())

    @property
    def dead(self) -> bool:
        """Whether it is known without waiting that the holder is gone."""
        return self.ended or (self.system != "" and self.system == _system() and not _lives(self.pid))

    def content(self) -> bytes:
        return json.dumps(asdict(self)).encode()


@contextmanager
def leased(bucket: Bucket, stage: str) -> Iterator[str]:
    """Hold the lease of a stage of this dataset. Yields the name of the run that does.

    Raises StoreError where another run holds it, by its host and process.
    """
    mine = Lease.mine()
    name = _take(bucket, stage, mine)
    stop = threading.Event()
    heart = threading.Thread(target=_beat, args=(bucket, stage, name, mine, stop), daemon=True)
    heart.start()
    try:
        yield mine.run
    finally:
        stop.set()
        heart.join()
        bucket.put(name, replace(mine, ended=True).content())


def refuse_lost(bucket: Bucket, stage: str, run: str) -> None:
    """Raise RunError unless this run holds the lease of the stage."""
    if (now := run_of(bucket, stage)) != run or not run:
        raise RunError(
            f"another run writes stage {stage} by now" if now else f"the run of stage {stage} has ended",
            where=str(bucket.address),
            fix="nothing needs to be done if that run was meant; else stop it, and run this command again",
        )


def run_of(bucket: Bucket, stage: str) -> str:
    """The run that holds the lease. "" if none does."""
    held = _latest(bucket, stage)
    return "" if held is None or held[1].ended else held[1].run


def _take(bucket: Bucket, stage: str, mine: Lease) -> str:
    while True:
        held = _latest(bucket, stage)
        if held is not None and not held[1].dead:
            _refuse_if_it_beats(bucket, stage, *held)
        number = int(held[0].rpartition("/")[2]) + 1 if held else 1
        name = f"{LEASES}/{stage}/{number:0{DIGITS}d}"
        if not bucket.create(name, mine.content()):
            continue
        names = _names(bucket, stage)
        if names[-1] == name:
            bucket.remove(names[:-1])
            return name
        bucket.remove([name])  # a number that others had taken and given back since it was looked up


def _refuse_if_it_beats(bucket: Bucket, stage: str, name: str, held: Lease) -> None:
    """Return when the lease has not changed for a term. Raises StoreError when it does."""
    who = f"process {held.pid} on {held.host}"
    print(f"{stage}: waiting up to {TERM_S:g} s to see whether {who} still writes this", file=sys.stderr, flush=True)
    began = time.monotonic()
    while time.monotonic() - began < TERM_S:
        time.sleep(LOOK_S)
        now = _latest(bucket, stage)
        if now is not None and now != (name, held):
            if now[1].ended:
                return
            raise StoreError(
                f"another run writes stage {stage} of this dataset: process {now[1].pid} on {now[1].host}",
                where=str(bucket.address),
                fix="wait for it or stop it",
            )


def _beat(bucket: Bucket, stage: str, name: str, mine: Lease, stop: threading.Event) -> None:
    beat = 0
    while not stop.wait(BEAT_S):
        beat += 1
        try:
            if max(_names(bucket, stage), default=name) != name:
                return  # somebody took over: whoever writes next finds that out
            bucket.put(name, replace(mine, beat=beat).content())
        except PairloomError as error:  # the work meets the same error, and says so
            print(f"{stage}: the lease is not renewed: {error.args[0]}", file=sys.stderr, flush=True)


def _names(bucket: Bucket, stage: str) -> list[str]:
    return sorted(one.name for one in bucket.objects(f"{LEASES}/{stage}"))


def _latest(bucket: Bucket, stage: str) -> tuple[str, Lease] | None:
    """(name, what it says) of the lease with the highest number."""
    for name in reversed(_names(bucket, stage)):
        if (content := bucket.read(name)) is not None:
            return name, Lease(**json.loads(content))
    return None


def _system() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
