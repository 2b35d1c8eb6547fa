"""Small results that take long to work out, kept in files that can be deleted at any time."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import xxhash

from pairloom.errors import StoreError
from pairloom.store.scratch import behind, put
from pairloom.store.writing import committed

SUM = 16  # hex digits of XXH3, before the content


def kept(path: Path, make: Callable[[], bytes]) -> bytes:
    """What `make` gave the first time, from this file; made again where the file is missing or damaged.

    Where the file cannot be written, that is said, and nothing is kept. A dataset in a bucket keeps it there, too.
    """
    fetch(path)
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        content = b""
    if content and content[:SUM] == _sum(content[SUM:]):
        return content[SUM:]
    made = make()
    try:
        with committed(path.parent, path.name) as temporary:
            temporary.write_bytes(_sum(made) + made)
        put(path)
    except StoreError as error:
        print(f"not kept for the next time: {error.args[0]} ({path})", file=sys.stderr)
    return made


def fetch(path: Path) -> None:
    """Have the file here, if the bucket behind its folder has it."""
    if not path.exists() and (scratch := behind(path)) is not None:
        scratch.bucket.bring(scratch.name(path), path)


def forget_others(path: Path, prefix: str) -> None:
    """Remove the files beside this one whose names begin so."""
    for other in path.parent.glob(f"{prefix}*"):
        if other != path:
            other.unlink(missing_ok=True)
    if (scratch := behind(path)) is not None:
        there = scratch.below(path.parent)
        there.remove(one.name for one in there.objects() if one.name.startswith(prefix) and one.name != path.name)


def _sum(content: bytes) -> bytes:
    return xxhash.xxh3_64_hexdigest(content).encode()
