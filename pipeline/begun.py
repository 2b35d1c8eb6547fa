"""What is finished of a shard that is not, in a bucket: a retry leaves it there for the worker that makes the shard.

On a disk the stage finds it in its folder. A stage's folder of a dataset in a bucket goes with the command.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pairloom.store.scratch import behind
from stages.contract import PARTIAL


def of(index: Path, shard: str) -> Path:
    """The folder of what is finished of a shard, in that of its stage."""
    return index / PARTIAL / shard


def put(index: Path, shards: Iterable[str]) -> None:
    """Copy what is finished of these shards to the bucket behind the folder, if one is."""
    if (scratch := behind(index)) is None:
        return
    for shard in shards:
        for file in sorted(of(index, shard).iterdir()):
            scratch.bucket.put(scratch.name(file), file)


def shards(index: Path) -> frozenset[str]:
    """Those of which something lies in the bucket."""
    if (scratch := behind(index)) is None:
        return frozenset()
    found = scratch.bucket.objects(scratch.name(index / PARTIAL))
    return frozenset(one.name.split("/")[-2] for one in found)


def bring(folder: Path) -> None:
    """Have here what the bucket has of a shard's folder."""
    if (scratch := behind(folder)) is not None and not folder.exists():
        for one in scratch.bucket.objects(scratch.name(folder)):
            scratch.bucket.bring(one.name, scratch.root / one.name)


def remove(folder: Path) -> None:
    """The shard is made."""
    if (scratch := behind(folder)) is not None:
        scratch.bucket.remove(one.name for one in scratch.bucket.objects(scratch.name(folder)))
