"""Take rows out of one table and its quarantine on disk: shard by shard, then its manifest. Any part may run again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pairloom.store import index
from pairloom.store.folder import Entry, Folder, open_folder, read_shard
from pairloom.store.hashed import sha256_file
from pairloom.store.scratch import remove
from pairloom.store.writing import Writer, write_index, write_shard
from pipeline.card import write_card
from pipeline.forget import rows
from pipeline.forget.noted import Touched
from pipeline.forget.wanted import Wanted
from schemas.quarantine import OF_A_PART
from schemas.shards import SHARDS


@dataclass(frozen=True)
class Taken:
    """How many rows a table has lost, and of how many shards something was taken."""

    rows: int
    shards: int


def take_out(folder: Folder, wanted: Wanted, touched: Touched, advance: Callable[[int], object]) -> dict[str, Entry]:
    """Write the shards of a table again that have something of these.

    Returns the entries of all that were written, now or by a run that died.
    """
    found = {}
    for entry in folder.shards:
        # of a shard in a bucket the manifest may say the size that it had
        file = folder.here(entry.name) if entry.name in touched.names else folder.file(entry.name)
        if rows.hits(folder.read(entry.name, rows.looked_at(folder.schema(entry.name))), wanted):
            touched.add(entry.name)
            found[entry.name] = _written(folder, entry, rows.without(folder.read(entry.name), wanted))
        elif entry.name in touched.names:
            found[entry.name] = _as_it_lies(entry, file)
        advance(entry.rows)
    return found


def take_out_rejects(folder: Folder, wanted: Wanted, touched: Touched) -> dict[str, Entry]:
    """The same of a quarantine. The entries of shards of which nothing is left have no rows."""
    found = {}
    for entry in folder.shards:
        file = folder.here(entry.name) if entry.name in touched.names else folder.file(entry.name)
        if entry.name in touched.names and not file.exists():
            found[entry.name] = replace(entry, rows=0)
            continue
        gone = wanted.rejects(folder.read(entry.name, ["key", "row"]))
        if gone.any():
            touched.add(entry.name)
            if gone.all():
                remove(file)
                found[entry.name] = replace(entry, rows=0)
            else:
                found[entry.name] = _written(folder, entry, folder.read(entry.name).filter(pa.array(~gone)))
        elif entry.name in touched.names:
            found[entry.name] = _as_it_lies(entry, file)
    return found


def _written(folder: Folder, entry: Entry, table: pa.Table) -> Entry:
    new = write_shard(folder.path, entry.name, table)
    if folder.table == SHARDS.name:
        write_index(folder.path, entry.name, new.sha256, compared=True)
    return replace(entry, rows=new.rows, bytes=new.bytes, sha256=new.sha256)


def _as_it_lies(entry: Entry, file: Path) -> Entry:
    """The entry of a shard that a run wrote before it died. Its index may be missing."""
    sha256 = sha256_file(file)
    new = replace(entry, rows=pq.read_metadata(file).num_rows, bytes=file.stat().st_size, sha256=sha256)
    if index.path_of(file).exists() and index.read(index.path_of(file), sha256) is None:
        write_index(file.parent, entry.name, sha256, compared=True)
    return new


def record(
    folder: Folder,
    rejects: Folder | None,
    changed: dict[str, Entry],
    changed_rejects: dict[str, Entry],
    prints: dict[str, str],
) -> Taken:
    """Write the manifests: what is on disk now, with these fingerprints where a shard has a new one."""
    left_out = {entry.name: changed_rejects.get(entry.name, entry) for entry in rejects.shards} if rejects else {}
    entries = {}
    for old in folder.shards:
        entry = changed.get(old.name, old)
        if rejects is not None and (old.name in changed or old.name in changed_rejects):
            entry = _counted(entry, rejects, left_out.get(old.name))
        entries[old.name] = replace(entry, fingerprint=prints.get(old.name, old.fingerprint))
    before = folder.rows
    if rejects is not None:
        kept = {name: _beside(each, entries.get(name)) for name, each in left_out.items() if each.rows}
        _finish(rejects, kept)
    _finish(folder, entries)
    if folder.table == SHARDS.name:
        write_card(open_folder(folder.path))
    return Taken(before - sum(entry.rows for entry in entries.values()), len(changed))


def _counted(entry: Entry, rejects: Folder, left_out: Entry | None) -> Entry:
    """The entry with what its quarantine holds now."""
    reasons: Counter[str] = Counter()
    if left_out is not None and left_out.rows:
        reasons.update(read_shard(rejects.file(entry.name), ["reason"])["reason"].to_pylist())
    rows_in = entry.rows + sum(number for reason, number in reasons.items() if reason not in OF_A_PART)
    return replace(entry, rejected=dict(sorted(reasons.items())), rows_in=rows_in if entry.rows_in else 0)


def _beside(reject: Entry, entry: Entry | None) -> Entry:
    """A quarantine's entry with what the table's says of both."""
    return reject if entry is None else replace(reject, fingerprint=entry.fingerprint, rows_in=entry.rows_in)


def _finish(folder: Folder, entries: dict[str, Entry]) -> None:
    writer = Writer.open(folder.path, folder.header)
    if writer.done != entries:
        writer.done, writer.as_read = entries, None
    writer.finish()
