"""What a worker says that it wrote, held to what this process sees: only what is on the disk here is recorded."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from pairloom.errors import StoreError
from pairloom.store import index
from pairloom.store.folder import Entry
from pairloom.store.scratch import behind
from pairloom.store.sums import footer_sum

PAUSE_S = 0.2  # between two looks. A network file system may show a new file late


@dataclass(frozen=True)
class Made:
    """A finished shard as the worker that wrote it sees it."""

    table: Entry
    rejects: Entry  # of the quarantine, no rows, no file
    footers: tuple[str, str]  # sums of the two files' ends. "" where there is no file
    host: str

    @property
    def entries(self) -> tuple[Entry, Entry]:
        return self.table, self.rejects


def footer_of(folder: Path, entry: Entry) -> str:
    """The sum of the file's footer, which has the place and size of all that is in it. "" for a shard without rows."""
    if not entry.bytes:
        return ""
    with (folder / f"{entry.name}.parquet").open("rb") as file:
        return footer_sum(file)


def confirm(made: Made, table: Path, quarantine: Path, indexed: bool, patience_s: float) -> None:
    """Return when both files are here with the size and the footer that the worker reports.

    A bucket has acknowledged them, and is looked at as a whole when the table is finished (`Writer.finish`).
    patience_s: how long to wait for them. Raises StoreError if they do not come.
    """
    if behind(table) is not None:
        return
    for folder, entry, footer in zip((table, quarantine), made.entries, made.footers, strict=True):
        deadline = time.monotonic() + patience_s
        while (wrong := _wrong(folder, entry, footer, indexed and folder == table)) and time.monotonic() < deadline:
            os.listdir(folder.parent)  # makes a network file system look again
            time.sleep(PAUSE_S)
        if wrong:
            raise StoreError(
                f"{made.host} reports shard {entry.name} as written, and here {wrong}",
                where=str(folder / f"{entry.name}.parquet"),
                fix="give all machines one shared folder under the same path, and run the same command again",
            )


def _wrong(folder: Path, entry: Entry, footer: str, indexed: bool) -> str:
    """What is wrong with the file. "" if nothing is."""
    path = folder / f"{entry.name}.parquet"
    if not entry.bytes:
        return "a file of that name is left" if path.exists() else ""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size != entry.bytes:
                return f"it has {size:,} bytes instead of {entry.bytes:,}"
            if footer_sum(file) != footer:
                return "it has other content"
    except FileNotFoundError:
        return "there is no such file"
    if indexed and not index.path_of(path).is_file():
        return "it has no index"
    return ""
