"""The tutorials from a data set, a list and features to training, from their first command to their last."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Any

import pytest
import yaml

from pairloom.store.folder import open_folder
from tests.following import HERE, follow

TUTORIALS = HERE / "docs/tutorial"
COCO, WEB, FEATURES = (
    (TUTORIALS / f"{name}.md").read_text(encoding="utf-8") for name in ("coco-to-uniter", "web-to-clip", "features")
)
STAGES = r"^\| `(\w+)` \| (\d+) \| (\d+) \|"  # a line of a table: stage, rows in, rows out
EXAMPLES = {"coco-uniter": COCO, "web-clip": WEB}


def settings_of(page: str) -> dict[str, Any]:
    """The params.yaml that a page tells its reader to write."""
    found: dict[str, Any] = yaml.safe_load(page.partition("```yaml\n")[2].partition("```")[0])
    return found


def changed(settings: dict[str, Any], page: str) -> dict[str, Any]:
    """The settings after what the page's last table says of a real run."""
    rows = re.findall(r"^\| `([\w.]+)` \| `(.*?)` \| `(.*?)` \|$", page, re.MULTILINE)
    assert rows
    for name, here, real in rows:
        section, _, key = name.partition(".")
        at, last = (settings[section], key) if key else (settings, section)
        assert at[last] == yaml.safe_load(here), name
        at[last] = yaml.safe_load(real)
    return settings


@pytest.mark.parametrize("example", EXAMPLES)
def test_a_tutorial_ends_with_the_settings_of_its_example(example: str) -> None:
    wanted = yaml.safe_load((HERE / "examples" / example / "params.yaml").read_text(encoding="utf-8"))
    page = EXAMPLES[example]
    assert changed(settings_of(page), page) == wanted


def test_the_tutorial_of_features_has_the_commands_of_its_example() -> None:
    example = (HERE / "examples/features-lxmert/README.md").read_text(encoding="utf-8")
    for words in ("--as lxmert-tsv --captions", "pairloom train --recipe lxmert --variant no-questions --shards"):
        assert words in example
        assert words in FEATURES


def rows_are_as_told(page: str, data: Path) -> None:
    """Each line of the page's table of stages: rows in, rows out."""
    told = re.findall(STAGES, page, re.MULTILINE)
    assert told
    for stage, _, out in told:
        assert open_folder(data / ("urls" if stage == "sample" else stage)).rows == int(out), stage


@pytest.mark.slow
@pytest.mark.long
def test_coco_to_uniter_works_as_it_is_written(tmp_path: Path) -> None:
    text = "\n".join(follow(COCO, tmp_path).values())
    rows_are_as_told(COCO, tmp_path / "my-coco/data")
    assert "no problem found" in text
    assert {entry.name.partition("-")[0] for entry in open_folder(tmp_path / "my-coco/data/shards").shards} == {
        *("train", "val")
    }
    assert list((tmp_path / "my-coco/models/uniter").glob("*.safetensors"))
    assert (tmp_path / "my-coco/data/report/index.html").exists()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@pytest.mark.slow
@pytest.mark.long
def test_a_list_to_clip_works_as_it_is_written(tmp_path: Path) -> None:
    printed = follow(WEB.replace("8123", str(free_port())), tmp_path)
    text = "\n".join(printed.values())
    for stage, came, out in re.findall(STAGES, WEB, re.MULTILINE):
        assert f"{stage}: {came} rows in, {out} out" in text
    for reason in re.findall(r"\(`([\w-]+)`\)", WEB):
        assert reason in text
    assert "`pairloom train --recipe clip" in text  # a run names a recipe that can read its shards
    download = open_folder(tmp_path / "web/data/download")
    assert download.rows == 24
    asked = (tmp_path / "server.log").read_text(encoding="utf-8")
    pictures = re.findall(r'GET (\S*/images/\S+) \S+" 200', asked)
    assert len(pictures) == len(set(pictures)) == 24  # each once, over three runs
    assert list((tmp_path / "web/models/clip").glob("*.safetensors"))


@pytest.mark.slow
@pytest.mark.long
def test_features_work_as_it_is_written(tmp_path: Path) -> None:
    text = "\n".join(follow(FEATURES, tmp_path).values())
    assert "no problem found" in text
    assert "cut-off 1" in text
    assert "no-features" in text
    assert open_folder(tmp_path / "mine/shards").rows == open_folder(tmp_path / "found/regions").rows
    assert list((tmp_path / "models/lxmert").glob("*.safetensors"))
    assert (tmp_path / "uniter/export.sha256").exists()
