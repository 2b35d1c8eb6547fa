"""`--log-json FILE`: what a run does, a JSON object a line, for programs that watch it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

EVERY_S = 10.0  # between two lines of progress


@dataclass
class Log:
    """Appends events to a file; without one it does nothing. Lines of an earlier run stay."""

    file: Path | None = None
    _last: float = 0.0

    def write(self, event: str, **facts: Any) -> None:
        """One line: time (UTC), event, and its facts."""
        if self.file is None:
            return
        line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **facts}
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a", encoding="utf-8") as stream:  # one write a line, whole or not at all
            stream.write(json.dumps(line, ensure_ascii=False) + "\n")

    def progress(
        self, stage: str, done: int, total: int | None, rate: float, counts: Mapping[str, int] | None = None
    ) -> None:
        """Rows done so far. A line each EVERY_S at most, and one at the end. counts: rows of finished shards."""
        now = time.monotonic()
        if self.file is not None and (now - self._last >= EVERY_S or done == total):
            self._last = now
            self.write("progress", stage=stage, done=done, total=total, rows_per_s=round(rate, 2), **(counts or {}))
