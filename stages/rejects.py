"""Build quarantine rows: the one way in which a stage says that it left a row out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pairloom.foreign import shown, storable
from schemas.quarantine import QUARANTINE, REASONS


@dataclass(frozen=True)
class Reject:
    """One row left out. `row` is the input row (blobs and pictures are dropped from it)."""

    key: str
    reason: str
    detail: str
    row: Mapping[str, Any]
    attempts: int = 1

    def __post_init__(self) -> None:
        assert self.reason in REASONS, f"{self.reason} is not in schemas.quarantine.REASONS"


def quarantine(stage: str, rejects: Iterable[Reject]) -> pa.Table:
    """A quarantine table of these rejects, in their order. A detail becomes one line, the same in every run."""
    rejects = list(rejects)
    return QUARANTINE.table(
        stage=[stage] * len(rejects),
        key=[storable(reject.key) for reject in rejects],
        reason=[reject.reason for reject in rejects],
        detail=[shown(reject.detail) for reject in rejects],
        attempts=[reject.attempts for reject in rejects],
        row=[row_json(reject.row) for reject in rejects],
    )


def row_json(row: Mapping[str, Any]) -> str:
    """An input row as JSON: ids in hex, long bytes left out."""
    return json.dumps({key: _plain(value) for key, value in row.items() if not _is_blob(value)}, ensure_ascii=False)


def _is_blob(value: Any) -> bool:
    return isinstance(value, bytes) and len(value) > 64


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, str):
        return storable(value)  # escaped before json.dumps, which would not read it back afterwards
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
