"""Each params.yaml of examples/ is taken by the stages and recipes that it configures, and has what DVC looks at."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline import project
from pipeline.params import check_sections, check_settings, read_params

HERE = Path(__file__).parents[2]
EXAMPLES = sorted((HERE / "examples").glob("*/params.yaml"))


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.parent.name)
def test_an_example_is_taken(file: Path) -> None:
    params = read_params(file)
    check_sections(params)
    check_settings(params)
    assert params.section("train")


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.parent.name)
def test_an_example_has_every_key_that_dvc_looks_at(file: Path) -> None:
    params = read_params(file)
    stages = project.stages(str(params.section("sample")["urls"]))
    named = [name for entry in stages.values() for name in entry.get("params", []) if isinstance(name, str)]
    for name in named:
        section, _, key = name.partition(".")
        assert section in params.sections
        assert not key or key in params.section(section), name


def test_every_folder_of_examples_is_on_their_page() -> None:
    page = (HERE / "examples/README.md").read_text(encoding="utf-8")
    folders = [folder for folder in (HERE / "examples").iterdir() if folder.is_dir()]
    assert folders
    assert all(f"[{folder.name}]" in page for folder in folders)
