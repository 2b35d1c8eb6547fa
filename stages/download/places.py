"""The sources of a run, and the rows whose pictures lie there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from formats.locators import Locator, parse


@dataclass(frozen=True)
class Places:
    """The sources of a run."""

    folders: tuple[tuple[str, str], ...] = ()  # name and path or address
    kept: Path | None = None  # where indexes of tars lie
    max_bytes: int = 64 << 20  # of one picture
    linked: frozenset[str] = frozenset()  # sources of which a picture that needs no change is linked, not stored

    def parse(self, url: str) -> Locator | None:
        return parse(url, dict(self.folders)) if self.folders else None


@dataclass(frozen=True)
class Wanted:
    """One row, or several of a shard that agree."""

    locator: Locator
    key: bytes
    checksum: str | None
