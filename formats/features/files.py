"""Which files of a folder a reader takes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from pairloom.errors import InputError


def found(path: Path, *suffixes: str) -> list[Path]:
    """The file itself, or all files of a folder with one of these endings, by name. Raises InputError for none."""
    if path.is_file():
        return [path]
    files = sorted(each for each in path.glob("*") if each.name.endswith(suffixes) and each.is_file())
    if not files:
        fix = f"name a file, or a folder of files that end in {' or '.join(suffixes)}"
        raise InputError("there are no features here", str(path), fix)
    return files


def below(path: Path, *suffixes: str) -> Iterator[Path]:
    """Every file with one of these endings below a folder, in the order of names; in memory are one folder's names."""
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
