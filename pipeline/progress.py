"""Show how far a long piece of work is, with rate and time left: a bar on a terminal, else plain lines."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from tqdm import tqdm

LINE_EVERY_S = 10.0  # plain lines are for logs, more would drown them


def say(text: str) -> None:
    """A line on standard error, above the bar if there is one."""
    tqdm.write(text, file=sys.stderr)
    sys.stderr.flush()


class Progress:
    """Counts done units on standard error, of a known total if there is one. Use it as a context manager."""

    def __init__(self, title: str, total: int | None, unit: str = "rows", plain: bool = False) -> None:
        self.title, self.total, self.unit = title, total, unit
        self.done = 0  # units that are finished for good
        self._parts: dict[str, float] = {}  # under way: name -> units
        self.shown = 0.0  # of both the most so far: what is done twice is not counted backwards
        self._start = self._last = time.monotonic()
        self._bar: tqdm | None = None
        self._note = ""
        if not plain and sys.stderr.isatty():
            self._bar = tqdm(total=total, desc=title, unit=f" {unit}", file=sys.stderr, dynamic_ncols=True)

    def note(self, text: str) -> None:
        """What else is to be shown from now on."""
        self._note = text
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=False)

    def advance(self, count: int) -> None:
        """So many more are finished."""
        self.done += count
        self._show()

    def under_way(self, name: str, count: float) -> None:
        """Of what goes by this name so many are done, but not finished: it may be begun again."""
        self._parts[name] = count
        self._show()

    def ended(self, name: str) -> None:
        """What goes by this name is no longer under way; if it is finished, `advance` says so."""
        self._parts.pop(name, None)

    def _show(self) -> None:
        before, self.shown = self.shown, max(self.shown, self.done + sum(self._parts.values()))
        now = time.monotonic()
        if self._bar is not None:
            self._bar.update(int(self.shown) - int(before))
        elif now - self._last >= LINE_EVERY_S and self.done != self.total:
            self._last = now
            self._line(now)

    @property
    def rate(self) -> float:
        """Units a second so far."""
        return self.shown / max(time.monotonic() - self._start, 1e-9)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        elif error is None and (self.total or self._last > self._start):
            self._line(time.monotonic(), ended=True)

    def _line(self, now: float, ended: bool = False) -> None:
        elapsed = max(now - self._start, 1e-9)
        count = int(self.shown)
        rate = self.shown / elapsed
        done = f"{count}" if self.total is None else f"{count}/{self.total}"
        tail = f", {self._left(rate)}" if self.total is not None and self.shown < self.total else ""
        tail = f", done in {elapsed:.1f} s" if ended or self.done == self.total else tail
        note = f", {self._note}" if self._note else ""
        print(f"{self.title}: {done} {self.unit}, {rate:.1f}/s{tail}{note}", file=sys.stderr, flush=True)

    def _left(self, rate: float) -> str:
        left = ((self.total or 0) - self.shown) / rate if rate else float("inf")
        return f"{left:.0f} s left"


class TrainingProgress:
    """Progress of a training run, told step by step, with moving means of its losses. The first step brings the total.

    A mean gives the newest loss of its objective a twentieth of the weight.
    """

    def __init__(self, recipe: str, plain: bool = False) -> None:
        self._recipe, self._plain = recipe, plain
        self._progress: Progress | None = None
        self._losses: dict[str, float] = {}

    def __call__(self, step: int, steps: int, objective: str, loss: float, waiting: float) -> None:
        """objective: whose step it was. waiting: share of the time so far in which there was no batch to train on."""
        if self._progress is None:
            self._progress = Progress(f"train {self._recipe}", steps, "steps", self._plain)
        before = self._losses.get(objective, loss)
        self._losses[objective] = before + (loss - before) / 20
        losses = ", ".join(f"{name} {mean:.3f}" for name, mean in self._losses.items())
        self._progress.note(f"loss {losses}, waiting for data {waiting:.0%}")
        self._progress.advance(1)

    def __enter__(self) -> TrainingProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.__exit__(kind, error, trace)
