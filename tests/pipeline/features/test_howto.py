"""The commands of docs/how-to do what they say, on small files of the names that stand there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from formats import exports, features
from pairloom.store.folder import open_folder
from tests.formats.features import made
from tests.pipeline.features.lists import coco, records, run

DOCS = Path(__file__).parents[3] / "docs"
FEW = ("--set", "shards.val_share=0.3")  # of these few pictures some must be held out


def commands(page: str) -> list[list[str]]:
    """The lines of a page's first block of code, without the program's name."""
    text = (DOCS / f"how-to/{page}.md").read_text(encoding="utf-8")
    found = re.search(r"^```\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert found is not None
    return [shlex.split(line)[1:] for line in found[1].splitlines()]


def follow(page: str) -> None:
    wanted = commands(page)
    assert len(wanted) == 3
    for command in wanted:
        verb = command[0]
        more = FEW if verb == "import" and "--shards" in command else ("--steps", "2") if verb == "train" else ()
        run(*command, *more)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files that the commands name."""
    monkeypatch.chdir(tmp_path)
    pictures = records(40)
    coco(tmp_path / "captions_train2014.json", pictures)
    made.write("lxmert-tsv", tmp_path / "lxmert", pictures)
    (tmp_path / "lxmert/features.tsv").rename(tmp_path / "train2014_obj36.tsv")
    made.write("uniter-lmdb", tmp_path / "coco_train2014", pictures)
    return tmp_path


@pytest.mark.slow
def test_i_have_lxmerts_tsvs(here: Path) -> None:
    follow("lxmert-tsvs")
    assert list((here / "models/lxmert").glob("*.safetensors"))
    assert open_folder(here / "coco/shards").rows == 40


@pytest.mark.slow
def test_i_have_uniters_lmdbs(here: Path) -> None:
    follow("uniter-lmdbs")
    assert list((here / "models/uniter").glob("*.safetensors"))
    assert made.good("vilbert-lmdb", here / "vilbert/train")


def test_my_training_code_is_oscars(here: Path) -> None:
    follow("oscar-training-code")
    assert made.good("oscar-tsv", here / "oscar/val")
    assert (here / "oscar/train/predictions.lineidx").exists()
    assert open_folder(here / "again/regions").rows == open_folder(here / "coco/shards").shards[0].rows


def test_the_page_names_every_layout() -> None:
    page = (DOCS / "reference/formats.md").read_text(encoding="utf-8")
    for name in (*features.names(), *exports.names()):
        assert f"`{name}`" in page, name
