"""What a dataset is to forget, and which shards of it were begun: noted so that a killed call can be finished.

On a disk these are files in DATA/.forget, in a bucket objects of the same names.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pairloom.store import tombstones
from pairloom.store.scratch import behind
from pairloom.store.writing import replace_text

NOTE = f"{tombstones.IN_WORK}/note.json"


def write(data: Path, note: Mapping[str, Any]) -> None:
    """From here on every run refuses this dataset."""
    text = json.dumps(note)
    if (scratch := behind(data)) is not None:
        scratch.bucket.put(NOTE, text.encode())
    else:
        (data / tombstones.IN_WORK).mkdir(parents=True, exist_ok=True)
        replace_text(data / NOTE, text)


def read(data: Path) -> dict[str, Any] | None:
    """The note of a call that has not ended, None where there is none."""
    if (scratch := behind(data)) is not None:
        content = scratch.bucket.read(NOTE)
    else:
        content = (data / NOTE).read_bytes() if (data / NOTE).exists() else None
    note: dict[str, Any] | None = None if content is None else json.loads(content)
    return note


def end(data: Path) -> None:
    """All is forgotten. The note goes last."""
    if (scratch := behind(data)) is not None:
        names = [one.name for one in scratch.bucket.objects(tombstones.IN_WORK)]
        scratch.bucket.remove(name for name in names if name != NOTE)
        scratch.bucket.remove([NOTE])
    else:
        shutil.rmtree(data / tombstones.IN_WORK)


class Touched:
    """The shards of a table that were begun: what lies there of them may not be what the manifest says."""

    def __init__(self, data: Path, table: str) -> None:
        self._file, self._scratch = data / tombstones.IN_WORK / table, behind(data)
        if self._scratch is not None:
            below = self._scratch.bucket.objects(self._scratch.name(self._file))
            self.names = {Path(one.name).name for one in below}
            return
        self._file.parent.mkdir(parents=True, exist_ok=True)
        text = self._file.read_text(encoding="utf-8") if self._file.exists() else ""
        self.names = set(text.split("\n")) - {""}

    def add(self, name: str) -> None:
        """It is noted before the shard is written."""
        if name in self.names:
            return
        self.names.add(name)
        if self._scratch is not None:  # an object each, since none can grow
            self._scratch.bucket.put(f"{self._scratch.name(self._file)}/{name}", b"begun")
            return
        with self._file.open("a", encoding="utf-8") as file:
            file.write(f"{name}\n")
            file.flush()
            os.fsync(file.fileno())
