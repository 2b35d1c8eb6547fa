"""Lint, part 4: does shard N hold the rows of its input's shard N, in their order, and is every row accounted for?"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from inspection.columns import Array, ids
from inspection.dataset import Dataset
from inspection.lint.near import places_in
from inspection.lint.problem import Findings
from inspection.lint.sampling import among, share_of
from inspection.tables import column_names
from pairloom.store import cures
from pairloom.store.folder import Entry, Folder, rebuild
from schemas.quarantine import OF_A_PART

HEX = re.compile(r"[0-9a-f]{32}")  # a key of quarantine that is an image's id


@dataclass(frozen=True)
class Step:
    """A stage's table, the table that it was made from, and what it left out."""

    source: Folder
    made: Folder
    rejects: Folder | None
    sound: set[Path]  # the shard files that may be read

    @property
    def key(self) -> str | None:
        """The column that names a row in both tables: an image has its id only once it is fetched."""
        both = set(column_names(self.source.table)) & set(column_names(self.made.table))
        return next((name for name in ("image_id", "url") if name in both), None)

    @property
    def again(self) -> str:
        return cures.resume(self.made.path, self.made.maker)


def check_counts(folder: Folder, rejects: Folder | None, findings: Findings) -> None:
    """Rows in = rows out + rows in quarantine, shard by shard."""
    left_out = {entry.name: entry.rows for entry in rejects.shards} if rejects else {}
    for entry in folder.shards:
        counted, there, file = sum(entry.rejected.values()), left_out.get(entry.name, 0), folder.file(entry.name)
        rows = sum(count for reason, count in entry.rejected.items() if reason not in OF_A_PART)
        if entry.rows_in and entry.rows_in != entry.rows + rows:
            what = f"{entry.rows_in:,} rows went in, {entry.rows:,} came out and {rows:,} went to quarantine"
            findings.file("count", file, what, rebuild(file))
        if counted != there:
            what = f"the manifest counts {counted:,} rows in quarantine, there are {there:,} of this shard"
            findings.file("count", file, what, rebuild(file))


def check_alignment(step: Step, findings: Findings) -> None:
    """Shard N holds the images of the input's shard N, in its order, but those in quarantine."""
    inputs = {entry.name: entry for entry in step.source.shards}
    source, made = step.source.header.stage, {entry.name for entry in step.made.shards}
    for name in sorted(set(inputs) - made) if step.made.complete else ():
        findings.file("missing", step.made.file(name), f"{source} has shard {name}, this table has none", step.again)
    for entry in step.made.shards:
        file = step.made.file(entry.name)
        if entry.name not in inputs:
            findings.file("leftover", file, f"there is no shard {entry.name} of its input {source}", step.again)
        elif {file, step.source.file(entry.name)} <= step.sound:
            _check_rows(step, entry, inputs[entry.name], findings)


def _check_rows(step: Step, entry: Entry, before: Entry, findings: Findings) -> None:
    file, key = step.made.file(entry.name), step.key
    if entry.rows_in and entry.rows_in != before.rows:
        what = f"it was made from {entry.rows_in:,} rows, its input has {before.rows:,}"
        findings.file("count", file, what, step.again)
    if key is None:
        return
    wanted, found = keys(step.source, entry.name, key), keys(step.made, entry.name, key)
    rest = iter(wanted)
    for row, value in enumerate(found):
        if value not in rest:  # `in` goes on from where the last one was found
            why = "is out of order" if value in set(wanted) else "is not in the input"
            place = f"shard {entry.name} of {step.source.header.stage}"
            findings.named("alignment", file, [(row, f"{key} {value} {why}, {place}")])
            return
    left_out = _rejected(step, entry.name)
    if left_out is not None and (lost := Counter(wanted) - Counter(found) - Counter(left_out)):
        what = f"{lost.total():,} rows of the input are neither here nor in quarantine, such as {next(iter(lost))}"
        findings.file("lost", file, what, rebuild(file))


def _rejected(step: Step, name: str) -> list[str] | None:
    """Keys of the rows that were left out of this shard. None if they can't be read."""
    if step.rejects is None or not any(entry.name == name and entry.rows for entry in step.rejects.shards):
        return []
    return rejected_keys(step.rejects, name) if step.rejects.file(name) in step.sound else None


def rejected_keys(rejects: Folder, name: str) -> list[str]:
    """Keys of the rows of a quarantine shard that were left out as a whole."""
    rows = rejects.read(name, ["key", "reason"]).to_pylist()
    return [row["key"] for row in rows if row["reason"] not in OF_A_PART]


def keys(folder: Folder, name: str, column: str) -> list[str]:
    """A shard's urls, or its image_ids in hex as the quarantine has them."""
    values = folder.read(name, [column])[column].to_pylist()
    return [value.hex() if isinstance(value, bytes) else value for value in values]


def check_all_images(found: Dataset, step: Step, findings: Findings) -> None:
    """Every image of the input is one row of the table, whose shards are cut anew, or lies in some quarantine."""
    folders = [step.source, step.made, *found.rejects.values()]
    files = {folder.file(entry.name) for folder in folders for entry in folder.shards if entry.rows}
    if not step.made.complete or not files <= step.sound:
        return
    share = share_of(step.source, findings, f"whether its images came into {step.made.header.stage} was checked")
    wanted = np.unique(_ids_among(step.source, "image_id", share))
    seen = np.zeros(len(wanted), np.bool_)
    source, stage = step.source.header.stage, step.made.header.stage
    for entry in step.made.shards:
        here = ids(step.made.read(entry.name, ["image_id"])["image_id"])
        places = places_in(wanted, here)
        strange = np.flatnonzero((places < 0) & among(here, share)).tolist()
        named = [(row, f"image_id {_hex(here[row])} is not in {source}") for row in strange]
        findings.named("reference", step.made.file(entry.name), named)
        seen[places[places >= 0]] = True
    rejects = [(each, entry.name) for each in found.rejects.values() for entry in each.shards if entry.rows]
    for folder, name in rejects:
        keys_there = [bytes.fromhex(key) for key in rejected_keys(folder, name) if HEX.fullmatch(key)]
        places = places_in(wanted, np.array(keys_there, "S16"))
        seen[places[places >= 0]] = True
    if len(lost := wanted[~seen]):
        what = f"{len(lost):,} images of {source} are neither in the {stage} nor in quarantine, such as {_hex(lost[0])}"
        findings.file("lost", step.made.path, what, cures.redo(step.made.path, step.made.maker))


def _ids_among(folder: Folder, column: str, share: float) -> Array:
    """Those of the share, S16."""
    parts = (ids(folder.read(name, [column])[column]) for name in folder.shards.column("name"))
    return np.concatenate([np.zeros(0, "S16"), *(part[among(part, share)] for part in parts)])


def _hex(image: bytes) -> str:
    return bytes(image).ljust(16, b"\0").hex()  # numpy drops a value's last zero bytes


def check_distinct(folder: Folder, sound: set[Path], findings: Findings) -> None:
    """No image comes twice in a table after curate, which merges duplicates. So none is in both train and val.

    `pairloom extract` keeps each file of a folder, so in table regions an image may come once from each source.
    """
    names = [entry.name for entry in folder.shards if folder.file(entry.name) in sound]
    columns = ["image_id", "source"] if folder.table == "regions" else ["image_id"]
    share = share_of(folder, findings, "whether an image comes twice was looked at")
    parts = [_places(folder.read(name, columns), number, share) for number, name in enumerate(names)]
    whole = pa.concat_tables(parts) if parts else pa.table({"image_id": pa.array([], pa.binary(16))})
    keys, groups = ids(whole["image_id"]), np.zeros(len(whole), np.int32)
    if "source" in whole.column_names:
        codes = whole["source"].combine_chunks().dictionary_encode().indices
        groups = codes.fill_null(-1).to_numpy(zero_copy_only=False)
    order = np.lexsort((groups, keys))  # stable: of equal rows the first of the table comes first
    again = 1 + np.flatnonzero((keys[order][1:] == keys[order][:-1]) & (groups[order][1:] == groups[order][:-1]))
    found: dict[str, list[tuple[int, str]]] = {name: [] for name in names}
    for row, earlier in sorted(zip(order[again].tolist(), order[again - 1].tolist(), strict=True)):
        here, before = (names[whole["shard"][each].as_py()] for each in (row, earlier))
        what = f"image_id {_hex(keys[row])} is in the table twice, before in shard {before}"
        found[here].append((whole["row"][row].as_py(), what))
    for name, twice in found.items():
        findings.named("duplicate", folder.file(name), twice)


def _places(table: pa.Table, shard: int, share: float) -> pa.Table:
    """The rows of the share, with the number of their shard and their row there."""
    rows = np.flatnonzero(among(ids(table["image_id"]), share))
    taken = table.take(pa.array(rows)).replace_schema_metadata(None)
    return taken.append_column("shard", pa.array(np.full(len(rows), shard))).append_column("row", pa.array(rows))
