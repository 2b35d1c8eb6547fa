"""Which files of a folder a reader takes."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from pairloom.errors import InputError

AHEAD = 16  # files that the disk may read before they are needed


def found(path: Path, *suffixes: str) -> list[Path]:
    """The file itself, or all files of a folder with one of these endings, by name. Raises InputError for none."""
    if path.is_file():
        return [path]
    files = sorted(each for each in path.glob("[!.]*") if each.name.endswith(suffixes) and each.is_file())
    if not files:
        fix = f"name a file, or a folder of files that end in {' or '.join(suffixes)}"
        raise InputError("there are no features here", str(path), fix)
    return files


def below(path: Path, *suffixes: str) -> Iterator[Path]:
    """Every file with one of these endings below a folder, in the order of names. In memory are one folder's names."""
    waiting = deque[Path]()
    for file in _below(path, suffixes):
        _fetch(file)
        waiting.append(file)
        if len(waiting) > AHEAD:
            yield waiting.popleft()
    yield from waiting


def _fetch(file: Path) -> None:
    """Tell the system that a file is read soon, so that the disk works while a picture before it is taken apart."""
    if not hasattr(os, "posix_fadvise"):  # macOS
        return
    with contextlib.suppress(OSError):  # whoever reads the file says it
        number = os.open(file, os.O_RDONLY)
        try:
            os.posix_fadvise(number, 0, 0, os.POSIX_FADV_WILLNEED)
        finally:
            os.close(number)


def _below(path: Path, suffixes: tuple[str, ...]) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    if not path.is_dir():
        raise InputError("there is no such folder", str(path), "name the folder that holds the features")
    any_there = False
    for place, folders, names in os.walk(path):
        folders.sort()
        for name in sorted(names):
            if name.endswith(suffixes) and not name.startswith("."):
                any_there = True
                yield Path(place, name)
    if not any_there:
        what = f"there is no file that ends in {' or '.join(suffixes)}"
        raise InputError(what, str(path), "name the folder of the features")
