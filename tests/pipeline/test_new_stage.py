"""A stage in a folder of its own is found wherever stages are known: no list of them is kept by hand."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import schemas
import stages
from inspection.tables import tables_markdown
from pipeline import project
from pipeline.cli import main
from pipeline.stage import flow, load, optional, order, wanted
from stages import shards
from tests import test_house
from tests.inspection.synthetic import make_dataset, rewrite

SCHEMA = """
import pyarrow as pa
from pairloom.table import Column, Table

LENGTHS = Table(
    name="lengths",
    version=1,
    row="one image",
    columns=(Column("image_id", pa.binary(16), "as in pairs"), Column("letters", pa.int64(), "of all its captions")),
    metadata=("alphabet",),
)
"""
STAGE = """
from dataclasses import dataclass
from pathlib import Path
import pyarrow as pa
from schemas.lengths import LENGTHS

INPUTS = ("curate",)
OUTPUT = LENGTHS
VERSION = 1

@dataclass(frozen=True)
class Config:
    times: int = 1

def setup(config: Config, folder: Path) -> Config:
    return config

def process(curate: pa.Table, tools: Config) -> pa.Table:
    letters = [sum(len(caption["text"]) for caption in own) * tools.times for own in curate["captions"].to_pylist()]
    return LENGTHS.table(metadata={"alphabet": "any"}, image_id=curate["image_id"], letters=letters)
"""


@pytest.fixture
def added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The stage `lengths` and its schema, as if they lay in stages/ and schemas/."""
    for package, source in ((stages, STAGE), (schemas, SCHEMA)):
        folder = tmp_path / package.__name__
        folder.mkdir()
        (folder / "lengths.py").write_text(source, encoding="utf-8")
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
    yield
    for package in (stages, schemas):
        sys.modules.pop(f"{package.__name__}.lengths", None)
        vars(package).pop("lengths", None)


def test_it_is_run_listed_checked_and_documented(
    added: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, params = make_dataset(tmp_path / "data"), tmp_path / "params.yaml"
    params.write_text("run: {cluster: inline}\nlengths: {times: 2}\n", encoding="utf-8")
    settings = ["--params", str(params), "--metrics", str(tmp_path / "metrics")]
    assert main(["stage", "lengths", "--data", str(data), *settings]) == 0
    assert "lengths: 18 rows in, 18 out" in capsys.readouterr().out

    assert main(["info", str(data), "--json"]) == 0
    tables = json.loads(capsys.readouterr().out)["tables"]
    (own,) = [table for table in tables if table["stage"] == "lengths"]
    assert (own["input"], own["rows"], own["config"]) == ("curate", 18, {"times": 2})

    assert main(["lint", str(data)]) == 0
    rewrite(data / "lengths", "00001", lambda table: table.take([1, 0, *range(2, table.num_rows)]))
    rewrite(data / "lengths", "00000", lambda table: table.slice(1))
    capsys.readouterr()
    assert main(["lint", str(data)]) == 1
    problems = capsys.readouterr().out
    assert "out of order" in problems
    assert "1 rows of the input are neither here nor in quarantine" in problems

    page = tables_markdown(flow().tables())
    assert "## lengths" in page
    assert "| `letters` | `int64` | of all its captions |" in page
    assert "Keys of the file's metadata: `alphabet`." in page


def test_the_command_line_names_it(added: None, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["stage", "--help"])
    assert "lengths" in capsys.readouterr().out


def test_it_is_optional_until_shards_reads_it(added: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "lengths" in optional()
    assert "lengths" not in order()
    monkeypatch.setattr(shards, "INPUTS", (*shards.INPUTS, "lengths"))
    assert "lengths" not in optional()
    ordered = order()
    assert ordered.index("curate") < ordered.index("lengths") < ordered.index("shards")
    assert wanted(lambda name: load(name).config_type()) == ordered  # what `pairloom run` runs


def test_dvc_must_list_it_once_shards_reads_it(added: None, monkeypatch: pytest.MonkeyPatch) -> None:
    test_house.test_dvc_runs_the_stages_that_pairloom_runs()
    monkeypatch.setattr(shards, "INPUTS", (*shards.INPUTS, "lengths"))
    with pytest.raises(AssertionError, match="lengths"):
        test_house.test_dvc_runs_the_stages_that_pairloom_runs()
    with pytest.raises(KeyError, match="lengths"):
        test_house.test_dvc_lists_a_stages_code_schema_inputs_settings_and_outputs("lengths")
    made = project.stages("my.csv")  # the dvc.yaml of `pairloom init` lists it by itself
    assert made["lengths"]["deps"] == ["data/curate/_pairloom"]
    assert "data/lengths/_pairloom" in made["shards"]["deps"]
