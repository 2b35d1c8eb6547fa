"""What the tables of a finished shard say of each of its rows, in the form in which the engine notes finished rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from formats.pictures.linked import LENGTH
from pairloom.extra import as_dict
from stages.download.address import without_credentials
from stages.download.spool import Outcome, key_of

Known = dict[bytes, tuple[Outcome, bytes]]
LINKED = "linked"  # of an outcome: bytes of a picture that is not stored, but stays in its source
SIZES = ("format", "width", "height", "original_width", "original_height", "phash")


def outcomes(urls: pa.Table, pairs: pa.Table, rejects: Sequence[Mapping[str, Any]]) -> Known | None:
    """Outcome and picture of each row by `spool.key_of`. None if the tables do not belong together.

    urls: the shard of the list. Pairs and rejects: what became of it, both in its order.
    """
    failed = {_row_of(reject): reject for reject in rejects}
    stored, position = pairs.to_pylist(), 0
    known: Known = {}
    for url, checksum in zip(urls["url"].to_pylist(), urls["checksum"].to_pylist(), strict=True):
        reject = failed.get((without_credentials(url), checksum))
        if reject is not None:
            known[key_of(url, checksum)] = of_reject(reject), b""
            continue
        if position == len(stored) or stored[position]["url"] != url:
            return None
        known[key_of(url, checksum)] = of_pair(stored[position])
        position += 1
    return known if position == len(stored) else None


def _row_of(reject: Mapping[str, Any]) -> tuple[str, str | None]:
    row = json.loads(reject["row"])
    return row["url"], row["checksum"]


def of_reject(reject: Mapping[str, Any]) -> Outcome:
    """The outcome of a row of the quarantine."""
    return {name: reject[name] for name in ("reason", "detail", "attempts")}


def of_pair(row: Mapping[str, Any]) -> tuple[Outcome, bytes]:
    """Outcome and picture of a row of the table. How often it was tried is in no table."""
    found = {"image_id": row["image_id"].hex(), "sha256": row["sha256"].hex(), "attempts": 1}
    found |= {name: row[name] for name in SIZES}
    if row["image"] is None:
        return found | {LINKED: int(as_dict(row["extra"])[LENGTH])}, b""
    return found, row["image"]
