"""Find a stage module by its name and give every optional part of the contract its default."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from pairloom.errors import ConfigError
from pairloom.table import Table
from stages.contract import Before, Corpus, Counts, Planned, Result, Scope

ORDER = ("download", "curate", "regions", "tags", "negatives", "shards")  # of `pairloom run`; dvc.yaml has the same
OPTIONAL = ("patches", "qa", "similar")  # run by name, for the recipes that need them


@dataclass(frozen=True)
class LoadedStage:
    """A stage module with all parts of stages/contract.py present. It can be pickled: functions go by their names."""

    name: str  # of its section, folder and quarantine
    module: str  # to import it by, in any process
    always: tuple[str, ...]  # its INPUTS
    asked: Callable[[Any], tuple[str, ...]] | None  # `inputs` of the stage, if its settings ask for further ones
    output: Table
    version: int
    columns: Mapping[str, Sequence[str]]
    scope: Scope
    config_type: type[Any]
    setup: Callable[..., Any]
    process: Callable[..., Result]
    index: Callable[[Corpus, Any, Path], None] | None
    grow: Callable[[Corpus, Any, Path, Before], bool] | None
    plan: Callable[[Corpus, Any], Sequence[Planned]] | None
    resources: Callable[[Any], Sequence[Path]]
    summary: Callable[[Corpus], dict[str, Any]]
    check: Callable[[Counts, Any, Iterable[pa.Table]], None]
    overlap: int
    asked_by: Mapping[str, str]

    def inputs(self, config: Any) -> tuple[str, ...]:
        """The stages whose tables it reads with this Config."""
        return self.asked(config) if self.asked else self.always


def load(name: str) -> LoadedStage:
    """The stage `stages.<name>`, or a stage of the user's own by its dotted module name.

    Raises ConfigError if there is none of that name.
    """
    if name not in (*ORDER, *OPTIONAL) and "." not in name:
        known = ", ".join((*ORDER, *OPTIONAL))
        raise ConfigError(f"there is no stage {name!r}", where="stages/", fix=f"name one of {known}")
    path = name if "." in name else f"stages.{name}"
    module: Any = importlib.import_module(path)
    return LoadedStage(
        name=path.rpartition(".")[2],
        module=path,
        always=module.INPUTS,
        asked=getattr(module, "inputs", None),
        output=module.OUTPUT,
        version=module.VERSION,
        columns=getattr(module, "COLUMNS", {}),
        scope=getattr(module, "SCOPE", "shard"),
        config_type=module.Config,
        setup=module.setup,
        process=module.process,
        index=getattr(module, "index", None),
        grow=getattr(module, "grow", None),
        plan=getattr(module, "plan", None),
        resources=getattr(module, "resources", _no_files),
        summary=getattr(module, "summary", _no_facts),
        check=getattr(module, "check", _any_share),
        overlap=getattr(module, "OVERLAP", 1),
        asked_by=getattr(module, "ASKED_BY", {}),
    )


def _no_files(config: Any) -> Sequence[Path]:
    return ()


def _no_facts(corpus: Corpus) -> dict[str, Any]:
    return {}


def _any_share(counts: Counts, config: Any, rejects: Iterable[pa.Table]) -> None:
    """A stage without `check` may keep as little as it will."""
