"""Which shards of a large table are looked at where all would take too long: some, spread evenly over it."""

from __future__ import annotations

from pairloom.store.entries import Entry, Shards

READ = 1000  # shards of a table, at most


def spread(shards: Shards, most: int | None = None) -> list[Entry]:
    """All of them, or `most` of more (by default READ)."""
    number, most = len(shards), most or READ
    places = range(number) if number <= most else [place * number // most for place in range(most)]
    return [shards[place] for place in places]


def spread_note(shards: Shards) -> str:
    """What to say of it. "" where all are looked at."""
    return f"in {READ:,} of {len(shards):,} shards" if len(shards) > READ else ""
