"""docs/tutorial/first-shards.md from its first command to its last in an empty folder."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pairloom.store.folder import open_folder
from tests.following import HERE, follow

PAGE = (HERE / "docs/tutorial/first-shards.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.long
def test_the_tutorial_works_as_it_is_written(tmp_path: Path) -> None:
    printed = follow(PAGE, tmp_path)
    for stage, _, out in re.findall(r"^\| `(\w+)` \| (\d+) \| (\d+) \|", PAGE, re.MULTILINE):
        table = "urls" if stage == "sample" else stage
        assert open_folder(tmp_path / "first" / table).rows == int(out), stage
    text = "\n".join(printed.values())
    assert "no problem found" in text
    assert "2 shards, nothing due" in text  # the second time
    for reason in re.findall(r"\(`([\w-]+)`\)", PAGE):
        assert reason in text
    assert (tmp_path / "row.png").exists()
    assert (tmp_path / "first/report/index.html").exists()
    assert list((tmp_path / "models/uniter").glob("*.safetensors"))
