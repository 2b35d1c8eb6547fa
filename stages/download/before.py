"""Rows that another program failed to fetch before they came here (formats/earlier.py)."""

from __future__ import annotations

import json

import pyarrow as pa

from formats import earlier
from pairloom.extra import as_dict
from schemas.quarantine import REASONS
from stages.download.spool import Outcome


def failures(urls: pa.Table) -> dict[int, Outcome]:
    """Rows of which the list says why they failed before, with their outcomes."""
    found: dict[int, Outcome] = {}
    for row, extra in enumerate(urls["extra"].to_pylist()):
        said = as_dict(extra)
        if said.get(earlier.REASON) in REASONS:
            found[row] = {"reason": said[earlier.REASON], "detail": said.get(earlier.DETAIL, ""), "attempts": 1}
    return found


def failed(rejects: pa.Table) -> int:
    """How many of these rows failed before and were not asked for: that says nothing of this run."""
    said = (as_dict(json.loads(row).get("extra")).get(earlier.REASON) for row in rejects["row"].to_pylist())
    return sum(why == reason for why, reason in zip(said, rejects["reason"].to_pylist(), strict=True))
