"""New folders of training shards made of old ones: merged, split, filtered, sampled; whole shards are only linked."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from inspection.columns import Array, ids
from pairloom.errors import ConfigError, InputError, StoreError
from pairloom.store import derived, index
from pairloom.store.folder import Entry, Folder, open_folder, sha256_of
from pipeline.new_folder import Reshaped, empty, start
from pipeline.progress import Progress
from schemas.shards import SHARDS

Keep = Callable[[pa.Table], pa.Array]  # small columns of a shard -> bool of each row
LIGHT = tuple(column.name for column in SHARDS.columns if column.name not in index.HEAVY)


def merge(folders: Sequence[Path], out: Path, keep_first: bool = False) -> Reshaped:
    """All shards of several folders, numbered anew.

    keep_first: of an image that is there several times the first row is kept, in the order of the folders. Raises
    StoreError if there is such an image and `keep_first` is false, or if the folders' tables or vocabularies differ.
    """
    opened = [_open(folder) for folder in folders]
    for other in opened[1:]:
        _refuse_mixture(opened[0], other)
    first = list(_first_rows(opened))
    again = sum(len(rows) - int(rows.sum()) for _, _, rows in first)
    if again and not keep_first:
        raise _doubled(opened, again)
    history: dict[str, object] = {"merge": [_history(folder) for folder in opened]}
    if again:
        history["left_out"] = again
    with start(out, opened[0].header, history) as new:
        for folder, entry, rows in first:
            new.take(folder, entry, pa.array(rows))
    for folder in opened:
        derived.note(folder, "shards merge", out)
    return replace(new.told(), left_out=again)


def _first_rows(folders: Sequence[Folder]) -> Iterator[tuple[Folder, Entry, Array]]:
    """Every shard, and of each of its rows whether no row before it, in any shard, is of the same image."""
    places = [(folder, entry) for folder in folders for entry in folder.shards]
    images = [ids(folder.read(entry.name, ["image_id"])["image_id"]) for folder, entry in places]
    first = np.zeros(sum(map(len, images)), bool)
    first[np.unique(np.concatenate([np.zeros(0, "S16"), *images]), return_index=True)[1]] = True
    ends = np.cumsum([0, *map(len, images)]).tolist()
    for (folder, entry), begin, end in zip(places, ends, ends[1:], strict=False):
        yield folder, entry, first[begin:end]


def _doubled(folders: Sequence[Folder], again: int) -> StoreError:
    """Names an image that is there twice, and where it is."""
    found: dict[bytes, str] = {}
    for folder in folders:
        for name, table in folder.tables(["image_id"]):
            for image_id in table["image_id"].to_pylist():
                place = str(folder.file(name))
                if image_id in found:
                    what = f"{again:,} rows are of images that came before, such as {image_id.hex()}"
                    fix = "merge folders without common images, or keep the first row of each with --keep-first"
                    return StoreError(what, f"{found[image_id]} and {place}", fix)
                found[image_id] = place
    raise AssertionError(again)


def split(folder: Path, parts: int, out: Path) -> list[Reshaped]:
    """Whole shards dealt to so many folders, each split in turn, so that all have about the same of each."""
    opened = _open(folder)
    if not 1 <= parts <= len(opened.shards):
        raise ConfigError(f"--parts is {parts}", str(folder), f"set 1 to {len(opened.shards)}, the number of shards")
    made: list[Reshaped] = []
    try:
        for part in range(parts):
            with start(out / str(part), opened.header, {"split": [part, parts], "of": _history(opened)}) as new:
                for entry in opened.shards[part::parts]:
                    new.link(opened, entry)
            made.append(new.told())
            derived.note(opened, "shards split", out / str(part))
    except BaseException:
        for finished in made:
            empty(finished.path)
        raise
    return made


def filter_rows(folder: Path, where: str, out: Path) -> Reshaped:
    """The rows for which a condition in SQL holds. A shard all of whose rows stay is linked. Needs DuckDB."""
    try:
        import duckdb
    except ImportError as error:
        raise ConfigError("filter needs DuckDB", "this environment", "install pairloom[sql]") from error

    def keep(rows: pa.Table) -> pa.Array:
        try:
            found = duckdb.from_arrow(rows).select(f"coalesce(({where}), false) AS kept").to_arrow_table()
        except duckdb.Error as error:
            what = f"the condition cannot be used: {error}"
            raise InputError(what, f"--where {where}", "_pairloom/README.md in the folder lists the columns") from error
        return found["kept"].cast(pa.bool_()).combine_chunks()

    return _kept(folder, keep, {"filter": where}, out)


def sample(folder: Path, share: float, seed: int, out: Path) -> Reshaped:
    """Each image with this probability, from its id and the seed alone: the same image in any folder it is in."""
    if not 0 <= share <= 1:
        raise ConfigError(f"--share is {share}", "pairloom shards sample", "set it from 0 to 1")

    def keep(rows: pa.Table) -> pa.Array:
        salt = b"sample" + seed.to_bytes(8, "little", signed=True)
        digests = [hashlib.sha256(salt + image_id).digest() for image_id in rows["image_id"].to_pylist()]
        return pa.array([int.from_bytes(digest[:8], "little") < share * 2**64 for digest in digests], pa.bool_())

    return _kept(folder, keep, {"sample": share, "seed": seed}, out)


def _kept(folder: Path, keep: Keep, how: dict[str, object], out: Path) -> Reshaped:
    opened = _open(folder)
    with start(out, opened.header, how | {"of": _history(opened)}) as new, Progress("shards", opened.rows) as progress:
        for entry in opened.shards:
            new.take(opened, entry, keep(opened.read(entry.name, _known(opened, entry))))
            progress.advance(entry.rows)
    derived.note(opened, f"shards {next(iter(how))}", out)
    return new.told()


def _known(folder: Folder, entry: Entry) -> list[str]:
    """The small columns that this shard has. An older one lacks some."""
    found = index.read(index.path_of(folder.here(entry.name)), entry.sha256)
    found = found or index.build(folder.here(entry.name), entry.sha256)
    return [column for column in LIGHT if column in found.facts["columns"]]


def _history(folder: Folder) -> dict[str, object]:
    """What a new folder remembers of the one it was made of."""
    made_by = {key: getattr(folder.header, key) for key in ("stage_version", "resources")}
    sums = sha256_of(folder.shards)
    counts = {"shards": len(folder.shards), "rows": folder.rows, "sha256": sums}
    return {**counts, **made_by, "config": dict(folder.header.config)}


def _open(path: Path) -> Folder:
    folder = open_folder(path)
    if folder.table != SHARDS.name or not folder.complete:
        state = f"a table of {folder.table}" if folder.table != SHARDS.name else "unfinished"
        raise StoreError(f"it is {state}, not finished training shards", str(path), "name a folder of the stage shards")
    return folder


def _refuse_mixture(first: Folder, other: Folder) -> None:
    if first.header.table_version != other.header.table_version:
        what = f"versions {first.header.table_version} and {other.header.table_version}"
        raise StoreError(f"the folders have {what}", str(other.path), "run the stage shards again in the older one")
    if not first.shards or not other.shards:
        return
    own, others = (folder.metadata(folder.shards[0].name) for folder in (first, other))
    for key in sorted((own.keys() | others.keys()) - {"pairloom"}):
        if own.get(key) != others.get(key):
            raise StoreError(
                f"the folders differ in {key}: {str(own.get(key))[:60]} and {str(others.get(key))[:60]}",
                where=str(other.path),
                fix="mix them in the loader (docs/reference/loader.md), or extract regions with the same detector",
            )
