"""A corpus in memory, as a stage's `index` and `plan` see one on disk."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import pyarrow as pa


class InMemory:
    """The shards of one stage's table, called 00000, 00001 …; asking for another stage's fails."""

    def __init__(self, stage: str, shards: Sequence[pa.Table]) -> None:
        self.stage = stage
        self.shards = {f"{number:05d}": shard for number, shard in enumerate(shards)}

    def tables(
        self, stage: str, columns: Sequence[str], shards: Collection[str] | None = None
    ) -> Iterator[tuple[str, pa.Table]]:
        assert stage == self.stage
        for name, shard in self.shards.items():
            if shards is None or name in shards:
                yield name, shard.select(list(columns))

    def hashes(self, stage: str) -> dict[str, str]:
        return {}

    def sizes(self, stage: str) -> dict[str, int]:
        return {name: shard.nbytes for name, shard in self.shards.items()}
