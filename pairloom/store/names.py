"""Names of shards: their number in five digits or more, after the split if they have one; in order by that number."""

from __future__ import annotations

import re

_NUMBERED = re.compile(r"(.*?)(\d*)", re.DOTALL)


def shard_name(number: int, split: str = "") -> str:
    """`00000`, or `train-00000`; from 100,000 on there are more digits."""
    return f"{split}-{number:05d}" if split else f"{number:05d}"


def by_number(name: str) -> tuple[str, int, str]:
    """The key that sorts names: as text `100000` would come before `99999`."""
    found = _NUMBERED.fullmatch(name)
    assert found is not None
    before, digits = found.groups()
    return before, int(digits or -1), name
