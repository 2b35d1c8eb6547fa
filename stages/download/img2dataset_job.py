"""What img2dataset's process is asked, and where it writes what became of each row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stages.download.records import Records

OUTCOMES = "outcomes"


@dataclass(frozen=True, kw_only=True)
class Job:
    """What job.json says. rows: url, checksum or null, boxes or null. allowed: hosts with private addresses."""

    rows: Sequence[tuple[str, str | None, str | None]]
    limits: Mapping[str, Any]
    allowed: Sequence[str]
    resizing: Mapping[str, Any] | None
    thread_count: int
    timeout: float
    retries: int
    user_agent_token: str
    directives: Sequence[str] = field(default_factory=tuple)


def open_records(folder: Path) -> Records:
    file: Any = (folder / OUTCOMES).open("a+b", buffering=0)
    return Records(file, str(folder))
