"""The hosts of the rows that were left out, each with every reason."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from urllib.parse import urlsplit

from inspection.dataset import Dataset
from inspection.spread import spread

ROWS = 200_000  # in quarantine that are looked at, of each stage
SHARDS = 200  # that they are spread over
HOSTS = 25  # shown


@dataclass(frozen=True)
class Host:
    """A host, how many of its rows were left out, and why: (stage, reason, how many), the most frequent first."""

    name: str
    rows: int
    reasons: list[tuple[str, str, int]]


@dataclass(frozen=True)
class Hosts:
    """The hosts with most rows left out, how many hosts there are, and how many rows were looked at of how many."""

    most: list[Host]
    number: int
    looked: int
    rows: int


def hosts(found: Dataset) -> Hosts:
    """Counted in the rows of quarantine themselves. A row of no host, such as a file's, counts as looked at alone."""
    counts: dict[str, Counter[tuple[str, str]]] = defaultdict(Counter)
    looked = total = 0
    for stage, folder in found.rejects.items():
        total, left = total + folder.rows, ROWS
        for entry in spread(folder.shards, SHARDS):
            rows = folder.read(entry.name, ["key", "reason", "row"]).slice(0, left).to_pylist()
            looked, left = looked + len(rows), left - len(rows)
            for row in rows:
                if name := host(row["key"], row["row"]):
                    counts[name][stage, row["reason"]] += 1
            if not left:
                break
    most = sorted(counts.items(), key=lambda item: (-item[1].total(), item[0]))[:HOSTS]
    made = [Host(name, reasons.total(), [(*key, times) for key, times in reasons.most_common()])
            for name, reasons in most]  # fmt: skip
    return Hosts(made, len(counts), looked, total)


def host(key: str, row: str) -> str:
    """The host of a row in quarantine: of its url, or of its key where that is one. "" if there is none."""
    try:
        values = json.loads(row)
    except ValueError:
        values = {}
    url = values.get("url") if isinstance(values, dict) else None
    try:
        return urlsplit(url if isinstance(url, str) and url else key).hostname or ""
    except ValueError:  # such as http://[ of the web
        return ""
