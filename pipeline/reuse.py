"""Reuse of another dataset: shards and indexes that would come out the same here are linked instead of made."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pairloom.errors import StoreError
from pairloom.store.address import local
from pairloom.store.folder import Entry, open_folder
from pairloom.store.hashed import sha256_file
from pairloom.store.linking import link_index, link_or_copy, link_shard
from pairloom.store.writing import write_index
from pipeline.planning import Work
from pipeline.sealed import SUMS, sums_of
from stages.contract import PARTIAL

WORKSPACE = "workspace"  # the value of run.reuse that finds the folder by itself
COPIES = (".dvc", "tmp", "exps")  # where DVC puts the copies of a workspace in which it runs experiments


@dataclass(frozen=True)
class Reusable:
    """A shard of the other dataset with the fingerprint that is wanted here: its table's entry and its quarantine's."""

    entry: Entry
    rejects: Entry | None  # None where no row was left out


def other_dataset(setting: str | None, data: Path) -> Path | None:
    """The folder that run.reuse names. None if it is not there, is `data` itself, or none is named."""
    if setting is None:
        return None
    other = in_workspace(data) if setting == WORKSPACE else local(setting)
    if other is None or other.resolve() == data.resolve():
        return None
    if not other.is_dir():
        print(f"run.reuse: there is no folder {other}, so nothing is reused", file=sys.stderr)
        return None
    return other


def in_workspace(data: Path) -> Path | None:
    """Where `data` lies in the workspace that started this DVC experiment, or None where there is none.

    `dvc exp run --temp` and `--queue` run in <workspace>/.dvc/tmp/exps/…/<copy>, which holds what git tracks and
    therefore no data.
    """
    data = data.resolve()
    root = next((parent for parent in data.parents if (parent / ".dvc").is_dir()), None)  # of this copy
    if root is None:
        return None
    starts = [at for at in range(len(root.parts)) if root.parts[at : at + len(COPIES)] == COPIES]
    return Path(*root.parts[: starts[-1]]) / data.relative_to(root) if starts else None


def find(work: Work, other: Path | None, due: Collection[str]) -> list[Reusable]:
    """The due shards that the other dataset has, by its manifests alone. An unfinished table's count, too."""
    if other is None:
        return []
    shards, rejects = _entries(_there(work.places.table, work, other)), _entries(_quarantine(work, other))
    found = []
    for name, fingerprint in work.tasks.fingerprints.items():
        entry = shards.get(name)
        if name not in due or entry is None or entry.fingerprint != fingerprint:
            continue
        left_out = rejects.get(name)
        if not entry.rejected:
            found.append(Reusable(entry, None))
        elif left_out and left_out.fingerprint == fingerprint and left_out.rows == sum(entry.rejected.values()):
            found.append(Reusable(entry, left_out))
    return found


def _entries(table: Path) -> dict[str, Entry]:
    try:
        return {entry.name: entry for entry in open_folder(table).shards}
    except StoreError:
        return {}  # the other dataset has no such table, or no manifest that can be read: nothing to reuse


def _there(folder: Path, work: Work, other: Path) -> Path:
    """The other dataset's folder of the same place."""
    return other / folder.relative_to(work.places.data)


def _quarantine(work: Work, other: Path) -> Path:
    return _there(work.places.quarantine, work, other)


def link(
    work: Work, other: Path | None, found: list[Reusable], record: Callable[[tuple[Entry, Entry]], None]
) -> set[str]:
    """Link the shards that were found and record each. The names of those whose bytes are what the manifest says."""
    if other is None or not found:
        return set()
    linked = set()
    pool = ThreadPoolExecutor(os.cpu_count())  # hashing releases Python's lock
    try:
        for one, intact in zip(found, pool.map(partial(_link_one, work, other), found), strict=True):
            if intact:
                none = Entry(one.entry.name, rows=0, bytes=0, sha256="")
                record((one.entry, one.rejects or none))
                linked.add(one.entry.name)
    finally:
        pool.shutdown(cancel_futures=True)
    damaged = len(found) - len(linked)
    noted = f"; {damaged} more are damaged there" if damaged else ""
    print(f"{work.stage.name}: {len(linked)} shards are linked from {other}{noted}", file=sys.stderr, flush=True)
    return linked


def _link_one(work: Work, other: Path, one: Reusable) -> bool:
    """Put one shard and its rejects where the stage would write them, in order. Returns whether both are intact."""
    places, name = work.places, one.entry.name
    table, rejects = _there(places.table, work, other), _quarantine(work, other)
    if one.rejects is None:
        (places.quarantine / f"{name}.parquet").unlink(missing_ok=True)
    elif not link_shard(places.quarantine, one.rejects, rejects / f"{name}.parquet"):
        return False
    if not link_shard(places.table, one.entry, table / f"{name}.parquet"):
        return False
    if work.stage.output.indexed and not link_index(places.table, one.entry, table / f"{name}.parquet"):
        write_index(places.table, name, one.entry.sha256, compared=True)
    shutil.rmtree(work.index / PARTIAL / name, ignore_errors=True)
    return True


def take_index(work: Work, other: Path | None, folder: Path) -> bool:
    """Fill a folder with the other dataset's index of the same inputs and settings, if it is there and intact.

    Otherwise the folder is empty again. Hard links are safe: the files of an index are replaced, never changed.
    """
    source = _there(work.index, work, other) if other else None
    if source is None or not (source / SUMS).is_file():
        return False
    _empty(folder)
    try:
        intact = _link_all(source, folder)
    except OSError:  # its owner removed it meanwhile. A full disk stops the stage's own index, too
        intact = False
    if not intact:
        _empty(folder)
    return intact


def _empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def _link_all(source: Path, folder: Path) -> bool:
    for name, wanted in sums_of(source).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if not wanted:
            (folder / name).mkdir()
            continue
        link_or_copy(source / name, folder / name)
        if sha256_file(folder / name) != wanted:
            return False
    shutil.copyfile(source / SUMS, folder / SUMS)
    return True
