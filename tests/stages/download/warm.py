"""Starts the command many times at the price of one: a process that has loaded everything forks for each run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

HERE = Path(__file__).resolve().parents[3]
LOOP = """
import json, os, sys
import pyarrow, pipeline.executor, stages.download, stages.sample
from pipeline.cli import main
pyarrow.array([0])  # loads pandas, if there is one
for line in sys.stdin:
    child = os.fork()
    if not child:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for stream in range(2):
            os.dup2(null, stream)
        sys.exit(main(json.loads(line)))
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Warm:
    """A context manager. One run at a time, each in a process and session of its own."""

    def __enter__(self) -> Self:
        self._loop = subprocess.Popen(
            [sys.executable, "-c", LOOP], cwd=HERE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.terminate()
        self._loop.communicate()

    def start(self, arguments: Sequence[str]) -> int:
        """The process id of the command with these arguments."""
        assert self._loop.stdin is not None
        self._loop.stdin.write(json.dumps(list(arguments)) + "\n")
        self._loop.stdin.flush()
        return int(self._line())

    def code(self) -> int:
        """The exit code of the run that was started, once it has ended; negative: the signal that ended it."""
        return int(self._line())

    def kill(self, process: int) -> int:
        """End the run with all its processes, as `kill -9` does. Returns its exit code."""
        os.killpg(process, signal.SIGKILL)
        return self.code()

    def _line(self) -> str:
        assert self._loop.stdout is not None
        line = self._loop.stdout.readline()
        assert line, "the loop has ended"
        return line
