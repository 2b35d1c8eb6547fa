"""What is known of a shard's rows before the shard is written, so that a killed run does not ask the web again.

Outcomes are appended to one file in the order in which rows finish. A body that waits for a decoder lies in a small
file with others, which goes when all of them have an outcome: the disk holds little more than what waits. The executor
deletes the folder when the shard itself is on disk.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

from stages.download.records import Place, Records

FILE = "rows.spool"
BODIES = "bodies-*.spool"
BODIES_BYTES = 4 << 20  # of bodies in a file, after which the next one begins

Outcome = Mapping[str, Any]  # what decoder.py answers, or {"reason", "detail", "attempts"}


def key_of(url: str, checksum: str | None) -> bytes:
    """What a row's outcome depends on. Rows of a shard that agree in it are fetched once."""
    return hashlib.blake2b(json.dumps([url, checksum]).encode(), digest_size=16).digest()


@dataclass
class _Bodies:
    """One file of bodies, and those in it that have no outcome."""

    path: Path
    records: Records
    waiting: dict[bytes, Place]


class Spool:
    """The outcomes of one shard's rows so far. A context manager. Not for two threads at once."""

    def __init__(self, folder: Path | None) -> None:
        """Opens what an interrupted run left in `folder`; None: a file that nobody comes back to, and no bodies."""
        self._folder = folder
        if folder is None:
            file: Any = tempfile.TemporaryFile(prefix="pairloom-", buffering=0)  # noqa: SIM115  # closed in __exit__
        else:
            folder.mkdir(parents=True, exist_ok=True)
            file = (folder / FILE).open("a+b", buffering=0)
        self._records = Records(file, str(folder or tempfile.gettempdir()))
        self._found = dict(self._records.found)
        self._files: list[_Bodies] = []
        self._bodies: dict[bytes, _Bodies] = {}  # rows without an outcome -> where their bodies are
        self._next = 0  # number of the next file of bodies
        for path in sorted(folder.glob(BODIES)) if folder else ():
            self._open_bodies(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._records.close()
        for file in self._files:
            file.records.close()

    def __contains__(self, key: bytes) -> bool:
        return key in self._found

    def stored(self, key: bytes) -> bool:
        """Whether a row that is here has a picture."""
        return self._found[key][2] > 0

    def add(self, key: bytes, outcome: Outcome, picture: bytes = b"") -> None:
        """Raises StoreError if the disk is full."""
        self._found[key] = self._records.append(key, outcome, picture)
        if file := self._bodies.pop(key, None):
            del file.waiting[key]
            self._close_finished(file)

    def get(self, key: bytes) -> tuple[dict[str, Any], bytes]:
        """The outcome of a row that is in the spool, and its picture (empty if it has none)."""
        return self._records.read(self._found[key])

    def add_body(self, key: bytes, facts: Mapping[str, Any], body: bytes) -> None:
        """Note what came for a row that has no outcome yet. Raises StoreError if the disk is full."""
        if self._folder is None:
            return
        if not self._files or self._files[-1].records.size >= BODIES_BYTES:
            self._open_bodies(self._folder / BODIES.replace("*", str(self._next)))
        file = self._files[-1]
        file.waiting[key] = file.records.append(key, facts, body)
        self._bodies[key] = file

    def has_body(self, key: bytes) -> bool:
        """Whether something came for a row that has no outcome."""
        return key in self._bodies

    def body(self, key: bytes) -> tuple[dict[str, Any], bytes]:
        """The facts and the body that `add_body` noted."""
        file = self._bodies[key]
        return file.records.read(file.waiting[key])

    def _open_bodies(self, path: Path) -> None:
        records = Records(cast(Any, path.open("a+b", buffering=0)), str(path.parent))
        waiting = {key: place for key, place in records.found if key not in self._found}
        file = _Bodies(path, records, waiting)
        self._files.append(file)
        self._bodies |= dict.fromkeys(waiting, file)
        self._next = max(self._next, int(path.stem.rpartition("-")[2]) + 1)

    def _close_finished(self, file: _Bodies) -> None:
        """Remove a file of bodies that nobody waits for."""
        if not file.waiting:
            file.records.close()
            file.path.unlink()
            self._files.remove(file)
