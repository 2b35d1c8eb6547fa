"""The house's rules: who may import whom, one name everywhere, and what each dvc.yaml stage must list."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
import yaml

from pairloom.store.folder import ASIDE, MANIFEST
from pipeline.stage import asking, load, names, on_request, optional, order

HERE = Path(__file__).resolve().parents[1]
# One folder of a room above that a room may import, and no other of it: a stage opens a trained model by it.
DOORS = {"stages": "systems.encoders"}
MAY_IMPORT = {
    "pairloom": set(),
    "schemas": {"pairloom"},
    "formats": {"pairloom", "schemas"},
    "demo": {"pairloom", "schemas"},
    "stages": {"pairloom", "schemas", "formats", "demo"},
    "devices": {"pairloom"},
    "trainer": {"pairloom", "devices"},
    "systems": {"pairloom", "devices", "trainer"},
    "evaluation": {"pairloom", "devices", "trainer", "systems"},
    "inspection": {"pairloom", "schemas", "formats"},
    "install": {"pairloom"},
    "pipeline": {
        "pairloom",
        "schemas",
        "formats",
        "demo",
        "stages",
        "devices",
        "trainer",
        "systems",
        "evaluation",
        "inspection",
        "install",
    },
}
DVC = yaml.safe_load((HERE / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
PARAMS = yaml.safe_load((HERE / "params.yaml").read_text(encoding="utf-8"))


def modules() -> dict[str, Path]:
    """Dotted name -> file, of every module of every room."""
    files = [file for room in MAY_IMPORT for file in sorted((HERE / room).rglob("*.py"))]
    return {dotted(file): file for file in files}


def dotted(file: Path) -> str:
    parts = file.relative_to(HERE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(file: Path, known: dict[str, Path]) -> Iterator[str]:
    """Our modules that the file imports, also inside functions and for type checking alone."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module in known:
            submodules = {f"{node.module}.{alias.name}" for alias in node.names} & known.keys()
            yield from submodules
            if len(submodules) < len(node.names):
                yield node.module


@pytest.mark.parametrize("room", sorted(MAY_IMPORT))
def test_nothing_imports_upward(room: str) -> None:
    known = modules()
    outside = {"tests", "benchmarks"}
    for file in sorted((HERE / room).rglob("*.py")):
        above = {name for name in imports(file, known) if not through_the_door(name, room)}
        wrong = {name.partition(".")[0] for name in above} - MAY_IMPORT[room] - {room}
        assert not wrong, f"{file.relative_to(HERE)} imports {sorted(wrong)}"
        assert not outside & {name.partition(".")[0] for name in every_import(file)}


def through_the_door(name: str, room: str) -> bool:
    door = DOORS.get(room, "")
    return bool(door) and (name == door or name.startswith(f"{door}."))


def every_import(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def test_no_files_import_each_other_in_a_circle() -> None:
    known = modules()
    graph = {name: set(imports(file, known)) - {name} for name, file in known.items()}
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"these import each other: {' → '.join(error.args[1])}")


@pytest.mark.parametrize("name", names())
def test_a_stage_has_one_name_everywhere(name: str) -> None:
    stage = load(name)
    assert stage.name == name
    assert name in PARAMS or name in set(optional()) - set(on_request())
    assert set(PARAMS.get(name, ())) <= set(stage.config_type.__dataclass_fields__)
    assert (HERE / f"tests/stages/test_{name}.py").exists() or (HERE / f"tests/stages/{name}").is_dir()
    assert (HERE / f"schemas/{stage.output.name}.py").exists()


@pytest.mark.parametrize("name", [*order(), *on_request()])
def test_dvc_lists_a_stages_code_schema_inputs_settings_and_outputs(name: str) -> None:
    stage, entry = load(name), DVC[name]
    code = f"stages/{name}" if (HERE / f"stages/{name}").is_dir() else f"stages/{name}.py"
    inputs = {f"data/{needed}/{ASIDE}" for needed in (*stage.always, *stage.asks)}
    asked = asking(name)
    assert {code, f"schemas/{stage.output.name}.py", *inputs} <= set(entry["deps"])
    assert entry["params"] == [name, *asked, *stage.takes.values()]
    outs = {path: options for out in entry["outs"] for path, options in out.items()}
    table = f"data/{name}/{MANIFEST}" if name == "shards" else f"data/{name}/{ASIDE}"
    assert {table, f"data/quarantine/{name}/{ASIDE}"} <= set(outs)
    assert all(options["persist"] for options in outs.values())  # or a killed run would start from nothing
    assert entry["cmd"] == f"pairloom stage {name} --redo{' --if-asked' if asked else ''}"


def test_dvc_runs_the_stages_that_pairloom_runs() -> None:
    assert set(DVC) == {"sample", *order(), *on_request(), "train", "report"}


def test_importing_knows_the_published_detectors_and_not_the_other_way_round() -> None:
    known = modules()
    for file in sorted((HERE / "stages/regions/published").glob("*.py")):
        assert not [name for name in imports(file, known) if name.startswith("stages.regions.importing")], file.name


def test_the_trainer_is_thin_and_names_no_system() -> None:
    files = sorted((HERE / "trainer").rglob("*.py"))
    assert sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files) < 2500
    folders = (HERE / "systems/models", HERE / "systems/objectives")
    parts = {file.stem for folder in folders for file in folder.glob("[a-z]*.py")} - {"masking", "alignment", "classes"}
    named = {file.stem for file in (HERE / "systems/recipes").glob("*.yaml")} | parts
    named -= {"clip"}  # the gradient is clipped, too
    spelt = re.compile(rf"\b({'|'.join(sorted(named))}|fashion-?bert|bert|vit)\b", re.IGNORECASE)
    for file in files:
        found = [line for line in file.read_text(encoding="utf-8").splitlines() if spelt.search(line)]
        assert not found, f"{file.relative_to(HERE)}: {found}"
