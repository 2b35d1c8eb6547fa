"""The index of a stage when it is complete: what its files hold, so that another dataset or machine may take it over.

In a bucket it lies where it lies in a folder. Workers elsewhere fetch it, and so does a later run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from pairloom.errors import StoreError
from pairloom.store.hashed import sha256_file
from pairloom.store.pulling import fetch_exactly
from pairloom.store.scratch import behind
from pipeline.folders import sums_below
from pipeline.handing import arriving, files_below, put_all

SUMS = "sums.json"  # in an index: file -> SHA-256, empty folder -> "", written when it is complete


def seal(folder: Path) -> None:
    """Note the SHA-256 of each file of a complete index."""
    known = sums_below(folder)
    sums = {str(file.relative_to(folder)): known.get(file) or sha256_file(file) for file in files_below(folder)}
    sums |= {str(each.relative_to(folder)): "" for each in _empty_folders(folder)}
    (folder / SUMS).write_text(json.dumps(sums, indent=1), encoding="utf-8")


def sums_of(folder: Path) -> dict[str, str]:
    """File -> SHA-256 of a sealed index, empty folder -> ""."""
    sums: dict[str, str] = json.loads((folder / SUMS).read_text(encoding="utf-8"))
    return sums


def _empty_folders(folder: Path) -> Iterator[Path]:
    return (each for each in sorted(folder.rglob("*")) if each.is_dir() and not any(each.iterdir()))


def put(folder: Path) -> None:
    """Copy a sealed index to the bucket that lies behind its folder, if one does. Others of the stage go."""
    scratch = behind(folder)
    if scratch is None or not (folder / SUMS).is_file():
        return
    there = scratch.below(folder)
    names = [name for name, sha256 in sums_of(folder).items() if sha256]
    put_all(there, folder, names)
    there.put(SUMS, folder / SUMS)  # the last: who finds it finds all
    stage = scratch.below(folder.parent)
    stage.remove(one.name for one in stage.objects() if not one.name.startswith(f"{folder.name}/"))


def bring(folder: Path) -> bool:
    """Fetch the index of this folder, if it is complete in the bucket behind it. Returns whether it is here now."""
    scratch = behind(folder)
    if scratch is None or (content := scratch.below(folder).read(SUMS)) is None:
        return False
    there = scratch.below(folder)
    try:
        with arriving(folder) as temporary:
            for name, sha256 in json.loads(content).items():
                if sha256:
                    fetch_exactly(there, temporary, name, there.size(name), sha256)
                else:
                    (temporary / name).mkdir(parents=True)
            (temporary / SUMS).write_bytes(content)
    except (FileNotFoundError, StoreError):
        return False  # it is made again
    return True


def need(folder: Path, made: bool) -> None:
    """Have the folder of an index here, on whatever machine; made: whether the stage has one at all.

    Raises StoreError where it is needed and lies nowhere.
    """
    if folder.exists() or behind(folder) is None:
        return
    if not made:
        folder.mkdir(parents=True, exist_ok=True)
    elif not bring(folder):
        raise StoreError("the index of the stage is not in the bucket", str(folder), "run the same command again")
