"""What a page is: an address's parameters in, something to show, a file or another address out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from inspection.browse.data import Data
from inspection.browse.jobs import Jobs
from inspection.browse.rules import Curating
from inspection.browse.scan import Scans
from pairloom.errors import InputError

PAGE = 24  # rows on a page
WAIT_S = 0.8  # a page waits for its rows so long, then shows what there is and asks again
Query = Mapping[str, str]


@dataclass(frozen=True)
class Shown:
    """A page from a template."""

    template: str
    values: dict[str, Any]


@dataclass(frozen=True)
class Sent:
    """A file; with a name it is saved, not shown."""

    content: bytes
    media_type: str
    name: str = ""
    keep: bool = False  # the browser may keep it


@dataclass(frozen=True)
class Elsewhere:
    """Another address."""

    address: str


Answer = Shown | Sent | Elsewhere


@dataclass
class Site:
    """What is shown, and what is being worked on."""

    datasets: list[Data]
    curating: Curating
    scans: Scans = field(default_factory=Scans)
    jobs: Jobs = field(default_factory=Jobs)

    def dataset(self, query: Query) -> tuple[int, Data]:
        number = whole(query, "d", 0)
        if number >= len(self.datasets):
            raise InputError(f"there is no dataset {number}", "the address", f"take 0 to {len(self.datasets) - 1}")
        return number, self.datasets[number]


Page = Callable[[Site, Query], Answer]


def whole(query: Query, name: str, default: int) -> int:
    """A parameter that is a number from 0 on."""
    text = query.get(name, "") or str(default)
    if not text.isdecimal() or len(text) > 12:
        raise InputError(f"{name} is {text[:40]!r}", "the address", "write a whole number from 0 on")
    return int(text)


def query_string(values: Mapping[str, Any]) -> str:
    return urlencode({key: value for key, value in values.items() if value not in ("", None)})
