"""What a command takes: time, processor time of it and its children, peak memory, connections, threads."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import psutil

EVERY_S = 1.0  # looking costs the machine some milliseconds


@dataclass(frozen=True)
class Cost:
    """What a command took. Memory is the sum of what its processes have to themselves."""

    wall_s: float
    cpu_s: float
    peak_mb: float = 0.0
    connections: int = 0  # most at once
    threads: int = 0  # of the command's own process, most at once


@dataclass
class _Watch:
    """Looks at a process and its children now and then."""

    process: psutil.Process
    peak_mb: float = 0.0
    connections: int = 0
    threads: int = 0
    over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self.over.wait(EVERY_S):
            try:
                self.look()
            except psutil.NoSuchProcess:  # it or a child has just ended
                continue

    def look(self) -> None:
        every = [self.process, *self.process.children(recursive=True)]
        self.peak_mb = max(self.peak_mb, sum(one.memory_full_info().uss for one in every) / 2**20)
        self.threads = max(self.threads, self.process.num_threads())
        sockets = os.scandir(f"/proc/{self.process.pid}/fd")
        self.connections = max(self.connections, sum(_is_socket(entry.path) for entry in sockets))


def _is_socket(path: str) -> bool:
    try:
        return os.readlink(path).startswith("socket:")
    except FileNotFoundError:  # closed meanwhile
        return False


def run(command: Sequence[str], environment: Mapping[str, str] | None = None, code: int = 0) -> Cost:
    """Run a command to its end, which must be with this exit code."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=os.environ | (environment or {})
    )
    watch = _Watch(psutil.Process(process.pid))
    thread = threading.Thread(target=watch.run)
    thread.start()
    _, errors = process.communicate()
    watch.over.set()
    thread.join()
    wall_s = time.monotonic() - start
    if process.returncode != code:
        sys.exit(f"{' '.join(command[:6])} ended with {process.returncode}:\n{errors[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(wall_s, cpu_s, watch.peak_mb, watch.connections, watch.threads)
