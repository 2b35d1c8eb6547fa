"""Each block of code of README and docs/ does what it says in a folder that has what it names, or says why not here."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import following
from tests.block_world import make
from tests.blocks import HERE, Block, blocks, blocks_of, check_yaml, commands, run
from tests.serving import pictures

PAGES = {page: list(found) for page, found in itertools.groupby(blocks(), key=lambda block: block.page)}
BY_ANOTHER = {  # pages that a test of their own takes from the first block to the last
    "docs/how-to/bucket.md": "tests/pipeline/test_bucket_page.py",
    "docs/how-to/dvc.md": "tests/pipeline/test_dvc.py",
    "docs/how-to/lxmert-tsvs.md": "tests/pipeline/features/test_howto.py",
    "docs/how-to/oscar-training-code.md": "tests/pipeline/features/test_howto.py",
    "docs/how-to/own-loop.md": "tests/test_how_to.py",
    "docs/how-to/own-recipe.md": "tests/test_how_to.py",
    "docs/how-to/read-shards.md": "tests/test_reading_shards.py",
    "docs/how-to/uniter-lmdbs.md": "tests/pipeline/features/test_howto.py",
    "docs/tutorial/coco-to-uniter.md": "tests/test_tutorials_of_data.py",
    "docs/tutorial/features.md": "tests/test_tutorials_of_data.py",
    "docs/tutorial/first-shards.md": "tests/test_tutorial.py",
    "docs/tutorial/web-to-clip.md": "tests/test_tutorials_of_data.py",
}
SETTINGS: dict[str, dict[str, Any]] = {  # what the page says to write into params.yaml
    "docs/reference/qa.md": {
        "qa": {"sources": [{"file": "data/sample/questions.json"}], "min_answer_count": 1},
        "shards": {"qa": True, "val_share": 0.3},
    },
}
RUN = [page for page, found in PAGES.items() if page not in BY_ANOTHER and any(not block.mark for block in found)]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """The folder that each page gets a copy of, and the address of its server."""
    folder = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch, pictures(folder / "www", 4) as host:
        patch.chdir(folder)
        make(folder, host)
        yield folder, host


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN)
def test_the_blocks_of_a_page_run_one_after_the_other(
    page: str, world: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, host = world
    shutil.copytree(folder, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    params = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8")) | SETTINGS.get(page, {})
    Path("params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    for block in PAGES[page]:
        if not block.mark:
            run(block, host)


@pytest.mark.slow
def test_the_cells_of_the_notebook_run_one_after_the_other(world: tuple[Path, str], tmp_path: Path) -> None:
    """With a few of its training steps; it is stored without what its cells print."""
    (tmp_path / "first").symlink_to(world[0] / "data")
    book = json.loads((HERE / "examples/look-at-shards.ipynb").read_text(encoding="utf-8"))
    code = "\n".join("".join(cell["source"]) for cell in book["cells"] if cell["cell_type"] == "code")
    assert '"50"' in code
    following.run("python", code.replace('"50"', '"2"'), tmp_path)
    assert list((tmp_path / "models/notebook").glob("*.safetensors"))
    assert not any(cell.get("outputs") for cell in book["cells"])


def test_a_mark_says_why_or_names_a_test_that_knows_the_page() -> None:
    marked = [block for block in itertools.chain(*PAGES.values()) if block.mark]
    for page, test in [*BY_ANOTHER.items(), *((block.page, block.said) for block in marked if block.mark == "run by")]:
        assert page in PAGES
        assert re.search(Path(page).stem.replace("-", "."), (HERE / test).read_text(encoding="utf-8")), (page, test)
    assert all(len(block.said) > 10 for block in marked if block.mark == "not run")


def test_blocks_and_marks_are_found() -> None:
    page = (
        "a\n\n<!-- not run: it takes hours -->\n```\nx\n```\n```text\ny\n```\n<!-- run by a.py -->\n\n```sh\nz\n```\n"
    )
    assert list(blocks_of(page, "p")) == [
        Block("p", 4, "", "x\n", "not run", "it takes hours"),
        Block("p", 12, "sh", "z\n", "run by", "a.py"),
    ]


@pytest.mark.parametrize("code", ["rm -rf data\n", "pairloom info x && dvc repro\n"])
def test_other_programs_are_not_run(code: str) -> None:
    with pytest.raises(AssertionError, match="only commands of pairloom"):
        list(commands(code))


@pytest.mark.parametrize("code", ["shards: {regionz: true}", "extends: uniter\nonly: [nothing]", "base: no-detector"])
def test_a_wrong_block_of_settings_fails(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Exception, match=r"regionz|nothing|no-detector|retrieval"):
        check_yaml(code)
