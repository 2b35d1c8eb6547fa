"""Where a stage or a training leaves numbers: a few in the metrics folder, which DVC tracks, and all below it."""

from __future__ import annotations

from pathlib import Path

FOLDER = "facts"  # in the metrics folder


def facts_of(metrics: Path, name: str) -> Path:
    """The file with all that is known of this stage or training; of an earlier version its metrics have it."""
    file = metrics / FOLDER / f"{name}.json"
    return file if file.is_file() else metrics / f"{name}.json"
