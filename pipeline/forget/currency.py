"""Which shards are what a run would make now, so that they stay so when rows of them and of their inputs go."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from inspection.dataset import Dataset
from pairloom.errors import PairloomError
from pairloom.store.folder import Folder
from pairloom.typed import build
from pipeline import fingerprints, windows
from pipeline.corpus import CorpusOnDisk
from pipeline.forget.wanted import Wanted
from pipeline.stage import LoadedStage, load, names
from stages import dealing
from stages.contract import Window, kept_in


class Made:
    """A table of a dataset with the stage and the settings that made it."""

    def __init__(self, folder: Folder, stage: LoadedStage, config: Any, inputs: Mapping[str, Folder]) -> None:
        self.folder, self.stage, self.config, self.inputs = folder, stage, config, inputs

    def plan(self, data: Dataset) -> list[Window]:
        """The windows that it was made by. None of a stage that does not cut shards anew."""
        if self.stage.plan is None:
            return []
        make = partial(self.stage.plan, CorpusOnDisk(self.inputs), self.config)
        return windows.planned(self.stage.name, kept_in(data.root), self.key(), make)

    def key(self) -> str:
        """The name of the plan of the inputs as they are."""
        corpus = [each.shards.column("sha256") for each in self.inputs.values()]
        return fingerprints.shard_fingerprint(self.folder.header, corpus)[:16]

    def wanted(self, planned: Sequence[Window]) -> dict[str, str]:
        """The fingerprint that each shard has if it is made of the inputs as they are."""
        folders = list(self.inputs.values())
        if self.stage.plan is not None:
            sources: Mapping[str, Any] = {n: of for _, n, of in fingerprints.windowed_sources(folders, planned)}
        else:
            sources = fingerprints.scoped_sources(folders, self.stage.scope(self.config))
        return fingerprints.shard_fingerprints(self.folder.header, sources)


def made(found: Dataset, name: str) -> Made | None:
    """The table of this stage. None where no run would take it as it is, since an input is missing or settings left."""
    folder = found.tables[name]
    if name not in names() or not folder.maker:
        return None
    stage = load(name)
    try:
        config = build(stage.config_type, folder.header.config, str(folder.path))
    except PairloomError:  # settings of another version: a run makes it anew in any case
        return None
    inputs = {needed: found.tables.get(needed) for needed in stage.inputs(config)}
    known = {needed: table for needed, table in inputs.items() if table is not None}
    return Made(folder, stage, config, known) if len(known) == len(inputs) else None


def stale(table: Made, planned: Sequence[Window]) -> list[str]:
    """The shards that are due in any case."""
    wanted = table.wanted(planned)
    return [entry.name for entry in table.folder.shards if entry.fingerprint != wanted.get(entry.name)]


def thinned(table: Made, planned: Iterable[Window], wanted: Wanted) -> list[Window]:
    """The plan after the forgotten rows of the first input have gone."""
    first, config = next(iter(table.inputs.values())), table.config
    found = []
    for window in planned:
        columns = dict.fromkeys(("image_id", "url", *config.split.columns))
        shards = [first.read(name, list(columns)) for name in window.shards]
        rows = [np.flatnonzero(wanted.rows(shard)) for shard in shards]
        if any(len(gone) for gone in rows):
            splits = [config.split.numbers(shard) for shard in shards]
            window = dealing.without(window, rows, splits, config.drawing)
        found.append(window)
    return found
