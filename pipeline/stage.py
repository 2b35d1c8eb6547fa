"""Find the stage modules, their order, and one by its name, with every optional part of the contract present.

A stage is a module or package directly under stages/ that assigns INPUTS and OUTPUT: there is no other list of them.
"""

from __future__ import annotations

import importlib.util
import pkgutil
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

import stages
from inspection.flow import Flow, StageFacts
from pairloom.errors import ConfigError
from pairloom.table import Array, Table
from stages.contract import Before, Corpus, Counts, ReadShard, Result, Scope, Window

ASSIGNED = re.compile(r"^(INPUTS|OUTPUT)\b[^=\n]*=", re.MULTILINE)


@dataclass(frozen=True)
class LoadedStage:
    """A stage module with all parts of stages/contract.py present. It can be pickled: functions go by their names."""

    name: str  # of its section, folder and quarantine
    module: str  # to import it by, in any process
    always: tuple[str, ...]  # its INPUTS
    asked: Callable[[Any], tuple[str, ...]] | None  # `inputs` of the stage, if its settings ask for further ones
    asks: tuple[str, ...]  # what `asked` may name beside `always`
    asking: tuple[str, ...]  # the settings by which it does, if they are few
    output: Table
    version: int
    columns: Mapping[str, Sequence[str]]
    usual_scope: Scope  # its SCOPE
    set_scope: Callable[[Any], Scope] | None  # `scope` of the stage, if its settings decide
    config_type: type[Any]
    setup: Callable[..., Any]
    process: Callable[..., Result]
    index: Callable[[Corpus, Any, Path], None] | None
    grow: Callable[[Corpus, Any, Path, Before], bool] | None
    plan: Callable[[Corpus, Any], Sequence[Window]] | None
    deal: Callable[[ReadShard, Window, Any], Sequence[Array]] | None
    resources: Callable[[Any], Sequence[Path]]
    summary: Callable[[Corpus], dict[str, Any]] | None
    check: Callable[[Counts, Any, Iterable[pa.Table]], None]
    recall: Callable[[Mapping[str, Any], Path], int] | None
    overlap: int
    wants_gpu: Callable[[Any], bool]
    asked_by: Mapping[str, str]
    takes: Mapping[str, str]
    distinct: bool
    reads_pictures: Callable[[Any], bool]

    def inputs(self, config: Any) -> tuple[str, ...]:
        """The stages whose tables it reads with this Config."""
        return self.asked(config) if self.asked else self.always

    def scope(self, config: Any) -> Scope:
        """On which shards of its inputs its shard N depends with this Config."""
        return self.set_scope(config) if self.set_scope else self.usual_scope


def names() -> tuple[str, ...]:
    """Every stage, by the alphabet. Read from the sources, since an import of them all costs half a second."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(stages.__path__) if _is_stage(module.name)))


def _is_stage(name: str) -> bool:
    spec = importlib.util.find_spec(f"stages.{name}")
    source = Path(spec.origin).read_text(encoding="utf-8") if spec and spec.origin else ""
    return {"INPUTS", "OUTPUT"} <= set(ASSIGNED.findall(source))


def order() -> tuple[str, ...]:
    """The stages that `shards` needs, whatever its settings, each after its inputs. Dvc.yaml has the same."""
    return _after_inputs(["shards"], {name: load(name).always for name in names()})


def optional() -> tuple[str, ...]:
    """The other stages: run by name, or where settings of others ask for their tables."""
    reads = {name: load(name).always for name in names()}
    needed = _after_inputs(["shards"], reads)
    return tuple(name for name in _after_inputs(names(), reads) if name not in needed)


def on_request() -> tuple[str, ...]:
    """The optional stages whose tables settings of `order` may ask for. Dvc.yaml has these, too."""
    asked = {name for stage in order() for name in load(stage).asks}
    return tuple(name for name in optional() if name in asked)


def asking(name: str) -> tuple[str, ...]:
    """Which settings ask for the table of a stage: "shards.patches" of its name, others, or a whole section.

    None where the table is always read. One that a setting leaves out, such as shards.regions, is asked for by it, too.
    """
    found = []
    for stage in map(load, order()):
        of_its_name = name in stage.config_type.__dataclass_fields__
        if name in stage.asks or (of_its_name and name in stage.always):
            keys = (name,) if of_its_name else stage.asking
            found += [f"{stage.name}.{key}" for key in keys] or [stage.name]
    return tuple(found)


def wanted(config_of: Callable[[str], Any]) -> tuple[str, ...]:
    """The stages that `shards` needs with these Configs, of stages by their names. Each after its inputs."""
    reads: dict[str, tuple[str, ...]] = {name: load(name).always for name in names()}
    while True:
        needed = _after_inputs(["shards"], reads)
        asked = {name: load(name).inputs(config_of(name)) for name in needed if load(name).asked}
        if all(reads[name] == inputs for name, inputs in asked.items()):
            return needed
        reads |= asked


def flow() -> Flow:
    """All stages as inspection sees them. `shards` may read every table that a setting of it asks for."""
    from schemas.shards import JOINED  # which imports all schemas: not for `--help`

    loaded = {name: load(name) for name in names()}
    reads = {name: stage.always for name, stage in loaded.items()}
    last = tuple(table.name for table in JOINED if table.name in loaded)
    reads["shards"] = (*reads["shards"], *last)
    known: dict[str, StageFacts] = {}
    for name in _after_inputs([*order(), *sorted(loaded)], reads):
        stage, first = loaded[name], known.get(reads[name][0])
        once = stage.distinct or (first is not None and first.distinct)
        has_images = any(column.name == "image_id" for column in stage.output.columns)
        known[name] = StageFacts(name, stage.output.name, reads[name], once and has_images, stage.plan is not None)
    return Flow(known)


def _after_inputs(wanted: Iterable[str], reads: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """These stages and all that they read, directly or not, each after those that it reads, in the order of INPUTS."""
    found: dict[str, None] = {}

    def visit(name: str, above: tuple[str, ...]) -> None:
        if name in above:
            circle = " → ".join((*above, name))
            raise ConfigError(f"stages read each other in a circle: {circle}", "stages/", "correct the INPUTS of one")
        for needed in reads[name]:
            if needed in reads and needed not in found:
                visit(needed, (*above, name))
        found[name] = None

    for name in wanted:
        if name not in found:
            visit(name, ())
    return tuple(found)


def load(name: str) -> LoadedStage:
    """The stage `stages.<name>`, or a stage of the user's own by its dotted module name.

    Raises ConfigError if there is none of that name.
    """
    if "." not in name and not _is_stage(name):
        raise ConfigError(f"there is no stage {name!r}", where="stages/", fix=f"name one of {', '.join(names())}")
    path = name if "." in name else f"stages.{name}"
    module: Any = importlib.import_module(path)
    return LoadedStage(
        name=path.rpartition(".")[2],
        module=path,
        always=module.INPUTS,
        asked=getattr(module, "inputs", None),
        asks=getattr(module, "ASKS", ()),
        asking=getattr(module, "ASKING", ()),
        output=module.OUTPUT,
        version=module.VERSION,
        columns=getattr(module, "COLUMNS", {}),
        usual_scope=getattr(module, "SCOPE", "shard"),
        set_scope=getattr(module, "scope", None),
        config_type=module.Config,
        setup=module.setup,
        process=module.process,
        index=getattr(module, "index", None),
        grow=getattr(module, "grow", None),
        plan=getattr(module, "plan", None),
        deal=getattr(module, "deal", None),
        resources=getattr(module, "resources", _no_files),
        summary=getattr(module, "summary", None),
        check=getattr(module, "check", _any_share),
        recall=getattr(module, "recall", None),
        overlap=getattr(module, "OVERLAP", 1),
        wants_gpu=getattr(module, "wants_gpu", _no_gpu),
        asked_by=getattr(module, "ASKED_BY", {}),
        takes=getattr(module, "TAKES", {}),
        distinct=getattr(module, "DISTINCT", False),
        reads_pictures=getattr(module, "reads_pictures", _any_picture),
    )


def _no_files(config: Any) -> Sequence[Path]:
    return ()


def _any_picture(config: Any) -> bool:
    return True


def _no_gpu(config: Any) -> bool:
    return False


def _any_share(counts: Counts, config: Any, rejects: Iterable[pa.Table]) -> None:
    """A stage without `check` may keep as little as it will."""
