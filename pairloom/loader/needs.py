"""What a plan needs of a folder of shards: which of its columns are missing there, or empty."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

from pairloom.errors import MissingColumnsError, StoreError
from pairloom.layout import BLOBS, left_out_columns
from pairloom.loader.reading import ShardReader
from pairloom.loader.source import Source, open_source
from pairloom.store import cures
from pairloom.store.folder import Entry, Folder

# Columns that are always there, but null unless this key of the file's metadata has a number above 0.
COUNTED = {
    "patch_": "patch_count",
    "pyramid_": "pyramid_count",
    "qa": "answer_count",
    "similar": "similar_top_k",
    "neighbour": "neighbour_top_k",
}
ALWAYS = frozenset({"image_id", "image", "captions", "url", "width", "height", "split"})
LATEST = 7  # version of the table of shards
OF_ONE_SHARD = frozenset({"pairloom", "shard"})  # metadata in which the shards of a folder differ
LINKED = (
    "the pictures are not in the shards: where the download linked them, make the shards again with shards.pictures: "
    "bytes; where only features came, take a recipe without pixels"
)
Metadata = Callable[[], Mapping[str, str]]  # gives that of the shards' files
FIX = "`pairloom recipe check RECIPE SHARDS` says which stages make what a recipe reads"


def check_folder(folder: Folder, shards: Path | str) -> None:
    """Raise StoreError if the table is unfinished, is not one of shards, or is of a later version than this loader."""
    if not folder.complete:
        what = f"the shards are unfinished: {folder.rows} rows so far"
        raise StoreError(what, str(shards), cures.resume(folder.path, folder.maker))
    if folder.table != "shards":
        fix = "name the folder that the stage shards wrote, such as data/shards"
        raise StoreError(f"it is a table of {folder.table}, not of shards", str(shards), fix)
    if folder.header.table_version > LATEST:
        what = f"the shards are of version {folder.header.table_version}, and this pairloom reads up to {LATEST}"
        raise StoreError(what, str(shards), "read them with the pairloom that wrote them, or a later one")


def refuse_other_metadata(found: Mapping[str, str], first: Mapping[str, str], where: str) -> None:
    """Raise StoreError where a shard has other vocabularies, widths or types than the first one of its folder.

    Its numbers would be taken for other classes, without a word.
    """
    for key in sorted(found.keys() | first.keys()):
        if key not in OF_ONE_SHARD and found.get(key) != first.get(key):
            said = f"its {key} is {_short(found.get(key))}, that of the first shard {_short(first.get(key))}"
            raise StoreError(said, where, "take it from a copy, or run the stage shards again with --redo")


def _short(text: str | None) -> str:
    return "missing" if text is None else text if len(text) <= 60 else f"{text[:57]}…"


def entries_of(folder: Folder, split: str, shards: Path | str) -> tuple[Entry, ...]:
    """The shards of a split that have rows. Raises StoreError if there are none."""
    entries = tuple(e for e in folder.shards if e.name.startswith(f"{split}-") and e.rows)
    if not entries:
        raise StoreError(f"there is no shard of split {split}", str(shards), "run the stage shards with more images")
    return entries


def lacking(shards: Path | str, columns: Iterable[str]) -> list[str]:
    """Those of the columns that a folder of shards lacks."""
    source, columns = open_source(shards), list(columns)
    first = entries_of(source.folder(), "train", shards)[0]
    there = _there(source, first, columns, lambda: ShardReader(source, first).metadata)
    return [column for column in columns if column not in there]


def _there(
    source: Source, entry: Entry, columns: Collection[str], metadata: Callable[[], Mapping[str, str]]
) -> set[str]:
    """The columns of a shard, without those of the named ones that hold nothing."""
    there = set(source.index(entry).facts["columns"])
    if any(_counted(column) or column not in ALWAYS for column in columns):  # else the file need not be opened
        notes = metadata()
        there -= {column for column in columns if (key := _counted(column)) and notes.get(key, "0") == "0"}
        there -= left_out_columns(notes)
    if "image" in columns and not source.index(entry).places("image").sizes.any():
        there -= {"image"}  # pairs that came with their features alone
    return there


def _counted(column: str) -> str | None:
    return next((key for prefix, key in COUNTED.items() if column.startswith(prefix)), None)


def check_columns(source: Source, entry: Entry, columns: Collection[str], metadata: Metadata) -> None:
    """Raises MissingColumnsError, which lists the columns that there are."""
    there = _there(source, entry, columns, metadata)
    if missing := sorted(set(columns) - there):
        what = f"the shards lack the columns {', '.join(missing)}"
        fix = LINKED if missing == ["image"] else f"name some of {', '.join(sorted(there))}; {FIX}"
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
