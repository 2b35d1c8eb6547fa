"""Files that are made for a whole corpus, in the bucket behind their folder: put there, fetched, and removed."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pairloom.store import pushing
from pairloom.store.bucket import Bucket
from pairloom.store.pushing import in_parallel
from pairloom.store.scratch import behind

JOBS = 32  # small objects on their way at once


def files_below(folder: Path) -> Iterator[Path]:
    """All files of a folder and of those in it, in order."""
    return (file for file in sorted(folder.rglob("*")) if file.is_file())


def put_all(there: Bucket, folder: Path, names: Iterable[str]) -> None:
    """Copy these files of a folder to where it lies in the bucket."""
    for _ in in_parallel(pushing.JOBS, lambda name: there.put(name, folder / name), names):
        pass


@contextmanager
def arriving(folder: Path) -> Iterator[Path]:
    """A place beside a folder to fetch its files to. It gets the folder's name when the block ends without an error.

    Another process of this machine may be faster. Then the folder is that one's.
    """
    temporary = folder.with_name(f"{folder.name}-{uuid.uuid4().hex}.tmp")
    temporary.mkdir(parents=True)
    try:
        yield temporary
        temporary.replace(folder)
    except OSError:
        if not folder.is_dir():
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


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
