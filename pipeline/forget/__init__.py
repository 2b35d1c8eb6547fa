"""Take rows out of a dataset for good: out of every table, out of other rows' lists, and out of later runs.

1. What is asked for is resolved against the tables, and a note of it put into DATA/.forget: from here on every run
   refuses this dataset, and the same command goes on where a killed one was.
2. Tombstones are written: hashes by which later runs leave the rows out.
3. Each table in the order of the data: the shards that hold something of it are written again, then the manifest.
   Fingerprints become those that the smaller inputs ask for, so that no shard is due that was not.
4. What is derived of the tables and can be made again goes: indexes, the report.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inspection.dataset import Dataset, open_dataset
from pairloom.errors import StoreError
from pairloom.store import afar, derived, tombstones
from pairloom.store.bucket import Bucket
from pairloom.store.scratch import behind
from pairloom.store.writing import only_writer
from pipeline import summaries, windows
from pipeline.forget import currency, noted, tables
from pipeline.forget.noted import Touched
from pipeline.forget.tables import Taken
from pipeline.forget.wanted import Wanted, resolved
from pipeline.progress import Progress
from pipeline.stage import flow
from stages.contract import kept_in

REMADE = (".loader", "report", "metrics")  # folders of a dataset


@dataclass(frozen=True)
class Forgotten:
    """What was done: pictures and addresses, rows and shards by table, and what was made of the old shards."""

    images: int
    urls: int
    tables: dict[str, Taken]
    stale: list[derived.Derived]
    removed: list[str] = field(default_factory=list)  # folders of what can be made again


def forget(data: Path, asked: Wanted, quiet: bool = False) -> Forgotten:
    """Take these out of all tables below `data`. What an interrupted call had begun is finished first.

    Raises StoreError where there is no table, one is unfinished, or another process writes one.
    """
    afar.refresh_all(data)
    found = open_dataset(data, flow())
    with ExitStack() as locks:
        names = ["forget", *dict.fromkeys((*(each.header.stage for each in found.tables.values()), *found.tables))]
        with ThreadPoolExecutor(len(names)) as pool:  # a lease of a process that died elsewhere is waited for 30 s
            list(pool.map(lambda name: locks.enter_context(only_writer(data, name)), names))
        afar.refresh_all(data)  # a run in the bucket may have ended while its lease was waited for
        found = open_dataset(data, flow())
        if noted.read(data) is None:
            _begin(found, asked)
            return _finish(found, quiet)
        before = _finish(found, quiet)
        if not asked.images and not asked.urls:
            return before
        found = open_dataset(data, flow())
        _begin(found, asked)
        return _finish(found, quiet)


def _begin(found: Dataset, asked: Wanted) -> None:
    """Steps 1 and 2."""
    for error in found.broken.values():
        raise error
    for folder in found.folders():
        if not folder.complete:
            raise StoreError(
                f"table {folder.path.name} is unfinished",
                where=str(folder.path),
                fix="finish the run that was interrupted, or wait for it, and forget then",
            )
    wanted = resolved(asked, found)
    stale, plans = {}, {}
    for name in found.tables:
        table = currency.made(found, name)
        if table is not None:
            planned = table.plan(found)
            stale[name] = currency.stale(table, planned)
            if planned:
                plans[name] = windows.as_text(currency.thinned(table, planned, wanted))
    note = {
        "images": sorted(image.hex() for image in wanted.images),
        "urls": sorted(wanted.urls),
        "stale": stale,
        "plans": plans,
        "rows": {name: folder.rows for name, folder in found.tables.items()},
    }
    noted.write(found.root, note)


def _finish(found: Dataset, quiet: bool) -> Forgotten:
    """Steps 2 to 4, of what the note says."""
    note = noted.read(found.root)
    assert note is not None
    wanted = Wanted(frozenset(map(bytes.fromhex, note["images"])), frozenset(note["urls"]))
    tombstones.add(found.root, wanted.hashes)
    taken = {}
    with Progress("forget", sum(folder.rows for folder in found.tables.values()), plain=quiet) as progress:
        for name in list(found.tables):
            touched = len(_take_out(found, name, wanted, note, progress))
            found = open_dataset(found.root, found.flow)  # with this table's new hashes
            taken[name] = Taken(note["rows"][name] - found.tables[name].rows, touched)
        for name in set(found.rejects) - {_stage_of(found, table) for table in found.tables}:
            folder = found.rejects[name]
            changed = tables.take_out_rejects(folder, wanted, Touched(found.root, f"quarantine-{name}"))
            tables.record(folder, None, {n: e for n, e in changed.items() if e.rows}, {}, {})
    removed = _remove_derived(found.root)
    stale = [one for folder in found.tables.values() for one in derived.stale(folder)]
    noted.end(found.root)
    return Forgotten(len(wanted.images), len(wanted.urls), taken, stale, removed)


def _take_out(found: Dataset, name: str, wanted: Wanted, note: Mapping[str, Any], progress: Progress) -> set[str]:
    """One table and its quarantine. The names of the shards that were written."""
    folder, rejects = found.tables[name], found.rejects_of(found.tables[name])
    touched, of_rejects = Touched(found.root, name), Touched(found.root, f"quarantine-{name}")
    changed = tables.take_out(folder, wanted, touched, progress.advance)
    changed_rejects = tables.take_out_rejects(rejects, wanted, of_rejects) if rejects else {}
    prints: dict[str, str] = {}
    table = currency.made(found, name)
    if name in note["stale"] and table is not None:
        planned = windows.from_text(note["plans"].get(name, "[]"))
        due = set(note["stale"][name])
        prints = {shard: value for shard, value in table.wanted(planned).items() if shard not in due}
        if planned:
            windows.planned(name, kept_in(found.root), table.key(), lambda: planned)  # which replaces the old plan
    tables.record(folder, rejects, changed, changed_rejects, prints)
    return touched.names


def _stage_of(found: Dataset, name: str) -> str:
    rejects = found.rejects_of(found.tables[name])
    return rejects.path.name if rejects else name


def _remove_derived(data: Path) -> list[str]:
    """Remove what holds texts or pictures of the tables and is made again where it is needed."""
    keep = kept_in(data)
    places = [place for place in (data / ".index").glob("*") if place != keep]
    places += [place for place in keep.glob("*") if place.is_dir() or place.name.startswith(summaries.NAME)]
    places += [data / name for name in REMADE if (data / name).exists()]
    for place in places:
        if place.is_dir():
            shutil.rmtree(place)
        else:
            place.unlink()
    if (scratch := behind(data)) is not None:
        return _remove_derived_there(scratch.bucket)
    return sorted(str(place.relative_to(data)) for place in places)


def _remove_derived_there(bucket: Bucket) -> list[str]:
    """The same in a bucket."""
    names = [one.name for below in (".index", *REMADE) for one in bucket.objects(below)]
    places = {name: _derived_place(name.split("/")) for name in names}
    bucket.remove(name for name, place in places.items() if place)
    return sorted(set(places.values()) - {""})


def _derived_place(parts: list[str]) -> str:
    """What is removed with a file, by the parts of its path: "" where it stays."""
    if parts[0] != ".index" or parts[1] != "kept":
        return "/".join(parts[: 1 + (parts[0] == ".index")])
    return "/".join(parts[:3]) if len(parts) > 3 or parts[2].startswith(summaries.NAME) else ""
