"""What looking must know of the stages. Their modules say it: pipeline/stage.py reads it there and hands it in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class StageFacts:
    """One stage, as far as its table can be checked and shown by it."""

    name: str  # of the stage and its folder
    table: str  # that it writes: its name in schemas/
    inputs: tuple[str, ...]  # every stage whose table it may read. It takes in the rows of the first
    distinct: bool  # an image comes once in its table
    recut: bool  # its shards are cut anew: shard N is not made from shard N


@dataclass(frozen=True)
class Flow:
    """All stages, each after those that it reads."""

    stages: Mapping[str, StageFacts]

    def main_input(self, stage: str) -> str | None:
        """The stage whose rows it takes in. None for what is no stage, such as the list of urls."""
        return self.stages[stage].inputs[0] if stage in self.stages else None

    def inputs(self, stage: str) -> tuple[str, ...]:
        return self.stages[stage].inputs if stage in self.stages else ()

    def distinct(self, stage: str) -> bool:
        return stage in self.stages and self.stages[stage].distinct

    def recut(self, stage: str) -> bool:
        return stage in self.stages and self.stages[stage].recut

    def order(self) -> list[str]:
        """The folders of tables in the order of the data, also those that no stage writes."""
        return list(dict.fromkeys(name for each in self.stages.values() for name in (*each.inputs, each.name)))

    def tables(self) -> list[str]:
        """The names of the stages' tables in that order. A table that no stage writes is called as its folder."""
        written = {each.name: each.table for each in self.stages.values()}
        return list(dict.fromkeys(written.get(name, name) for name in self.order()))
