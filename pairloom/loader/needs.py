"""What a plan needs of a folder of shards: which of its columns are missing there, or empty."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from pairloom.errors import MissingColumnsError, StoreError
from pairloom.layout import BLOBS
from pairloom.loader.reading import ShardReader
from pairloom.loader.source import Source, open_source
from pairloom.store.folder import Entry

# Columns that are always there, but null unless this key of the file's metadata has a number above 0.
COUNTED = {"patch_": "patch_count", "pyramid_": "pyramid_count", "qa": "answer_count", "similar": "similar_top_k"}
FIX = "`pairloom recipe check RECIPE SHARDS` says which stages make what a recipe reads"


def entries_of(source: Source, split: str, shards: Path | str) -> tuple[Entry, ...]:
    """The shards of a split that have rows. Raises StoreError if there are none."""
    entries = tuple(e for e in source.folder().shards if e.name.startswith(f"{split}-") and e.rows)
    if not entries:
        raise StoreError(f"there is no shard of split {split}", str(shards), "run the stage shards with more images")
    return entries


def lacking(shards: Path | str, columns: Iterable[str]) -> list[str]:
    """Those of the columns that a folder of shards lacks."""
    source, columns = open_source(shards), list(columns)
    there = _there(source, entries_of(source, "train", shards)[0], columns)
    return [column for column in columns if column not in there]


def _there(source: Source, entry: Entry, columns: Collection[str]) -> set[str]:
    """The columns of a shard, without those of the named ones that are null throughout."""
    there = set(source.index(entry).facts["columns"])
    if any(_counted(column) for column in columns):  # else the file need not be opened
        notes = ShardReader(source, entry).metadata
        there -= {column for column in columns if (key := _counted(column)) and notes.get(key, "0") == "0"}
    return there


def _counted(column: str) -> str | None:
    return next((key for prefix, key in COUNTED.items() if column.startswith(prefix)), None)


def check_columns(source: Source, entry: Entry, columns: Collection[str]) -> None:
    """Raises MissingColumnsError, which lists the columns that there are."""
    there = _there(source, entry, columns)
    if missing := sorted(set(columns) - there):
        what = f"the shards lack the columns {', '.join(missing)}"
        fix = f"name some of {', '.join(sorted(there))}; {FIX}"
        raise MissingColumnsError(what, source.where(entry.name), fix, tuple(missing))


def check_widths(columns: Iterable[str], metadata: Mapping[str, str], where: str) -> None:
    """A column can be there and hold nothing: a setting of the stage that made it left its values out.

    Raises MissingColumnsError.
    """
    for column in columns:
        for width in BLOBS[column].shape if column in BLOBS else ():
            if metadata.get(str(width)) == "0":
                what = f"column {column} is empty: {width} is 0 in the shards' metadata"
                raise MissingColumnsError(what, where, FIX, (column,))
