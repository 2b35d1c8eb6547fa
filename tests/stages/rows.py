"""What a stage says while it works on a table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stages import rows_done


def said_of(rows: int, process: Callable[[], Any]) -> list[float]:
    """The rows that are done at each report of a call of `process` on so many."""
    said: list[float] = []
    with rows_done.counting(said.append, every_s=0.0), rows_done.current().call(rows):
        process()
    return said
