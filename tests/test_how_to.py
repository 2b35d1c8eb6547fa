"""Pages of docs/how-to that are followed from their first block to their last, on small files of the names there."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import yaml

from pairloom.store.folder import open_folder
from pipeline.params import check_sections, check_settings, read_params
from tests.following import HERE, follow
from tests.formats.features import made
from tests.pipeline.features.lists import coco, records, run
from tests.serving import pictures

PAGES = HERE / "docs/how-to"


def page(name: str) -> str:
    return (PAGES / f"{name}.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data/shards, of LXMERT's features."""
    folder = tmp_path_factory.mktemp("how-to")
    found = records(40)
    coco(folder / "captions.json", found)
    made.write("lxmert-tsv", folder / "features", found)
    command = ("import", folder / "features", "--as", "lxmert-tsv", "--captions", folder / "captions.json")
    run(*command, "--out", folder / "data", "--shards", "--cluster", "inline", "--set", "shards.val_share=0.3")
    return folder


@pytest.mark.slow
@pytest.mark.long
def test_own_recipe(shards: Path) -> None:
    text = "\n".join(follow(page("own-recipe"), shards).values())
    assert re.search(r"^\d+ parameters$", text, re.MULTILINE)
    assert (shards / "metrics/train-counting.json").exists()


@pytest.mark.slow
@pytest.mark.long
def test_own_loop(shards: Path) -> None:
    assert follow(page("own-loop"), shards)


@pytest.mark.long
def test_decontaminate(tmp_path: Path) -> None:
    with pictures(tmp_path / "pictures", 4):
        pass
    for number in range(4):
        (tmp_path / f"pictures/{number}.txt").write_text(f"a small thing of {number}")
    (tmp_path / "benchmark").mkdir()
    shutil.copy(tmp_path / "pictures/2.jpg", tmp_path / "benchmark/test.jpg")
    run("import", tmp_path / "pictures", "--out", tmp_path / "mine", "--cluster", "inline")
    printed = follow(page("decontaminate"), tmp_path)
    assert any("1 pictures" in text for text in printed.values())
    assert excluded(tmp_path / "mine") == 1
    by_hash = f"curate.exclude=[{tmp_path}/hashes.parquet]"
    run("curate", tmp_path / "mine", "--out", tmp_path / "by-hash", "--set", by_hash)
    assert excluded(tmp_path / "by-hash") == 1


def excluded(data: Path) -> int:
    """How many rows curate left out for it."""
    found = open_folder(data / "quarantine/curate").tables(["reason"])
    return sum(table["reason"].to_pylist().count("excluded") for _, table in found)


@pytest.mark.parametrize("name", ["pretrain-uniter", "pretrain-clip"])
def test_the_settings_of_a_pre_training_are_taken(name: str, tmp_path: Path) -> None:
    found = re.search(r"^```yaml\n(.*?)^```", page(name), re.MULTILINE | re.DOTALL)
    assert found
    (tmp_path / "params.yaml").write_text(found[1], encoding="utf-8")
    params = read_params(tmp_path / "params.yaml")
    check_sections(params)
    check_settings(params)
    example = {"pretrain-uniter": "coco-uniter", "pretrain-clip": "web-clip"}[name]
    mine = yaml.safe_load((HERE / "examples" / example / "params.yaml").read_text(encoding="utf-8"))["train"]
    for recipe, settings in params.section("train").items():
        assert mine[recipe].items() <= settings.items()  # the page adds to its example
