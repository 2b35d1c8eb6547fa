"""docs/how-to/read-shards.md line by line: each of its programs reads a folder of shards from the stage's writer."""

from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path

import pytest

from pairloom.store.folder import open_folder
from pipeline.card import write_card
from tests.pairloom.loader.loading import write_folder

PAGE = Path(__file__).resolve().parents[1] / "docs/how-to/read-shards.md"
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
TRAIN, VAL = 17, 17  # rows
# How many rows each finds. DuckDB's asks for five.
ROWS = {"pyarrow.parquet": 9, "pyarrow.dataset": TRAIN + VAL, "pandas": TRAIN + VAL, "duckdb": 5}
ROWS |= {"polars": TRAIN + VAL, "datasets": TRAIN, "daft": TRAIN + VAL}


def library(program: str) -> str:
    return program.split()[1]


def test_the_page_has_a_program_for_each_of_these_readers() -> None:
    assert [library(program) for program in PROGRAMS] == list(ROWS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Above data/shards, which has indices and a card."""
    work = tmp_path_factory.mktemp("work")
    write_card(open_folder(write_folder(work / "data/shards", (9, 8), splits=("train", "val"))))
    return work


@pytest.mark.filterwarnings("ignore")  # of other people's readers
@pytest.mark.parametrize("program", PROGRAMS, ids=library)
def test_its_program_reads_the_folder(program: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec(library(program).partition(".")[0]) is None:
        pytest.skip(f"{library(program)} is not installed")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(folder / "cache"))
    monkeypatch.setenv("DAFT_ANALYTICS_ENABLED", "false")
    names: dict[str, object] = {}
    exec(program, names)
    found = next(names[name] for name in ("rows", "frame", "found", "table") if name in names)
    if "stream" in names:
        assert len(list(names["stream"])) == TRAIN  # type: ignore[call-overload]
    assert (found if isinstance(found, int) else len(found)) == ROWS[library(program)]  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore")
def test_the_card_beside_the_shards_names_their_splits_to_datasets(folder: Path, tmp_path: Path) -> None:
    from datasets import load_dataset

    shutil.copytree(folder / "data/shards", tmp_path / "hub", ignore=shutil.ignore_patterns("_pairloom"))
    shutil.copy(folder / "data/shards/_pairloom/README.md", tmp_path / "hub/README.md")
    found = load_dataset(str(tmp_path / "hub"), cache_dir=str(tmp_path / "cache"))
    assert {name: len(rows) for name, rows in found.items()} == {"train": TRAIN, "validation": VAL}
    streamed = load_dataset(str(tmp_path / "hub"), split="validation", streaming=True)
    assert len(list(streamed)) == VAL
