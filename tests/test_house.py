"""The house's rules: who may import whom, one name everywhere, and what each dvc.yaml stage must list."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from pipeline.stage import OPTIONAL, ORDER, load

HERE = Path(__file__).resolve().parents[1]
MAY_IMPORT = {
    "schemas": set(),
    "stages": {"schemas"},
    "formats": {"schemas"},
    "inspection": {"schemas", "formats"},
    "trainer": {"schemas"},
    "pipeline": {"schemas", "stages", "formats", "inspection", "trainer", "install"},
}
DVC = yaml.safe_load((HERE / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
PARAMS = yaml.safe_load((HERE / "params.yaml").read_text(encoding="utf-8"))


def imports(file: Path) -> Iterator[str]:
    """Top-level names of all modules that the file imports, also inside functions."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


@pytest.mark.parametrize("room", sorted(MAY_IMPORT))
def test_nothing_imports_upward(room: str) -> None:
    ours = set(MAY_IMPORT) | {"tests", "benchmarks", "install"}
    for file in sorted((HERE / room).rglob("*.py")):
        wrong = {name for name in imports(file) if name in ours} - MAY_IMPORT[room] - {room}
        assert not wrong, f"{file.relative_to(HERE)} imports {sorted(wrong)}"


def test_the_loader_knows_no_model_and_no_objective() -> None:
    for file in sorted((HERE / "trainer/data").glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] == "trainer":
                named = [f"{node.module}.{alias.name}" for alias in node.names]
                rooms = {name.split(".")[1] for name in named}
                assert rooms <= {"data", "recipe", "contract"}, f"{file.name} imports {named}"


@pytest.mark.parametrize("name", [*ORDER, *OPTIONAL])
def test_a_stage_has_one_name_everywhere(name: str) -> None:
    stage = load(name)
    assert stage.name == name
    assert name in PARAMS or name in OPTIONAL
    assert set(PARAMS.get(name, ())) <= set(stage.config_type.__dataclass_fields__)
    assert (HERE / f"tests/stages/test_{name}.py").exists() or (HERE / f"tests/stages/{name}").is_dir()
    assert (HERE / f"schemas/{stage.output.name}.py").exists()


@pytest.mark.parametrize("name", ORDER)
def test_dvc_lists_a_stages_code_schema_inputs_settings_and_outputs(name: str) -> None:
    stage, entry = load(name), DVC[name]
    code = f"stages/{name}" if (HERE / f"stages/{name}").is_dir() else f"stages/{name}.py"
    inputs = {f"data/{needed}" for needed in stage.inputs(stage.config_type())}
    assert {code, f"schemas/{stage.output.name}.py", *inputs} <= set(entry["deps"])
    assert entry["params"] == [name]
    outs = {path: options for out in entry["outs"] for path, options in out.items()}
    assert {f"data/{name}", f"data/quarantine/{name}"} <= set(outs)
    assert all(options["persist"] for options in outs.values())  # or a killed run would start from nothing
    assert entry["cmd"] == f"pairloom stage {name} --redo"


def test_dvc_runs_the_stages_that_pairloom_runs() -> None:
    assert set(DVC) == {"sample", *ORDER, "train", "report"}
