"""The stage `curate` as `pairloom browse` needs it: run on some shards into nowhere, to see what rules would do."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from inspection.browse.rules import Verdict
from pairloom.errors import InputError
from pairloom.store.entries import Shards
from pairloom.store.folder import Folder
from pairloom.typed import build
from pipeline import linking
from pipeline.corpus import CorpusOnDisk
from pipeline.desk import Desk
from pipeline.pool import Inline
from pipeline.stage import load
from pipeline.task import named
from schemas.quarantine import OF_A_PART


class CurateStage:
    """Fits inspection.browse.rules.Curating."""

    stage = "download"

    def profiles(self) -> Sequence[str]:
        from stages.curate.config import profile_names

        return profile_names()

    def settings(self, section: Mapping[str, Any]) -> Mapping[str, Any]:
        return dict(vars(self._config(section)))

    def _config(self, section: Mapping[str, Any]) -> Any:
        from stages.curate import Config

        return build(Config, section, "the form")

    def left_out(
        self, tables: Mapping[str, Folder], shards: Sequence[str], section: Mapping[str, Any]
    ) -> Iterator[Verdict]:
        curate, config = load("curate"), self._config(section)
        inputs = [self._part(tables, stage, shards) for stage in curate.inputs(config)]
        tables_read = dict(zip(curate.inputs(config), inputs, strict=True))
        with tempfile.TemporaryDirectory(prefix="pairloom-rules-") as name:
            index = Path(name)
            desk = Desk("curate", Inline, index / "gathered", index / "room", "tried")
            assert curate.index is not None
            curate.index(CorpusOnDisk(tables_read, desk), config, index)
            tools = curate.setup(config, index)
            for entry in inputs[0].shards:
                table, *others = (
                    named(folder.read(entry.name, curate.columns.get(stage)), entry.name)
                    for stage, folder in tables_read.items()
                )
                if curate.reads_pictures(config):
                    table, _ = linking.read("curate", table, inputs[0].path)
                _, rejects = curate.process(table, *others, tools)
                for row in rejects.select(["key", "reason", "detail"]).to_pylist():
                    if row["reason"] not in OF_A_PART:
                        yield Verdict(entry.name, row["key"], row["reason"], row["detail"])

    @staticmethod
    def _part(tables: Mapping[str, Folder], stage: str, shards: Sequence[str]) -> Folder:
        """These shards of a table, as if they were all of it."""
        if stage not in tables:
            raise InputError(
                f"these rules read the table {stage}", "the rules", f"run the stage {stage}, or take others"
            )
        folder = tables[stage]
        return replace(folder, shards=Shards([entry for entry in folder.shards if entry.name in set(shards)]))
