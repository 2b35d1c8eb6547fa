"""What was made of a folder of shards elsewhere: exports and folders of some of its rows, noted beside its manifest."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from pairloom.errors import StoreError
from pairloom.store.folder import ASIDE, Folder, sha256_of
from pairloom.store.scratch import behind
from pairloom.store.writing import replace_text

NAME = f"{ASIDE}/derived.json"


@dataclass(frozen=True)
class Derived:
    """A folder that was made of these shards."""

    out: str  # its absolute path then, or its address
    how: str  # "export uniter-lmdb", "shards sample" …
    sha256: str  # of the shards as they were: sha256_of


def note(folder: Folder, how: str, out: Path) -> None:
    """Remember that `out` was made of this folder; where that cannot be written, it is said and nothing more."""
    scratch = behind(out)
    place = str(scratch.below(out).address if scratch else out.absolute())
    one = Derived(place, how, sha256_of(folder.shards))
    known = [each for each in read(folder.path) if each.out != one.out]
    try:
        replace_text(folder.path / NAME, json.dumps([asdict(each) for each in (*known, one)], indent=1) + "\n")
    except StoreError as error:
        print(f"not noted in {folder.path}: {place} was made of it ({error.args[0]})", file=sys.stderr)


def read(folder: Path) -> list[Derived]:
    """Raises StoreError where the note is no note."""
    file = folder / NAME
    if not file.exists():
        return []
    try:
        return [Derived(**each) for each in json.loads(file.read_text(encoding="utf-8"))]
    except (ValueError, TypeError) as error:
        what = f"the list of what was made of these shards is damaged: {error}"
        raise StoreError(what, str(file), "remove it") from error


def stale(folder: Folder) -> list[Derived]:
    """What was made of other shards than those that are there now."""
    now = sha256_of(folder.shards)
    return [each for each in read(folder.path) if each.sha256 != now]
