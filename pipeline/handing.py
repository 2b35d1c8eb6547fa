"""Files that workers make for a whole corpus, in the bucket behind their folder: fetched, and removed."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from pairloom.store.pushing import in_parallel
from pairloom.store.scratch import behind

JOBS = 32  # small objects on their way at once


def bring(folder: Path, wanted: Callable[[str], bool]) -> None:
    """Have the files here whose names are wanted."""
    if (scratch := behind(folder)) is None:
        return
    there, here = scratch.below(folder), {file.name for file in folder.glob("*")}
    names = [one.name for one in there.objects() if wanted(one.name) and one.name not in here]
    for _ in in_parallel(JOBS, lambda name: there.bring(name, folder / name), names):
        pass


def keep_only(folder: Path, names: Collection[str]) -> None:
    """Remove all others from the bucket."""
    if (scratch := behind(folder)) is not None:
        there = scratch.below(folder)
        there.remove(one.name for one in there.objects() if one.name not in names)
