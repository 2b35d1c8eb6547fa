"""Names of shards: their number in five digits or more, after the split if they have one; in order by that number."""

from __future__ import annotations

DIGITS = "0123456789"


def shard_name(number: int, split: str = "") -> str:
    """`00000`, or `train-00000`; from 100,000 on there are more digits."""
    return f"{split}-{number:05d}" if split else f"{number:05d}"


def by_number(name: str) -> tuple[str, int, str]:
    """The key that sorts names: as text `100000` would come before `99999`."""
    before = name.rstrip(DIGITS)
    return before, int(name[len(before) :] or -1), name
