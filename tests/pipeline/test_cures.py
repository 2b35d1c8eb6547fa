"""The cures that lint prints, followed to the letter. Folders that cannot be written, and other ends of a command."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from inspection.lint import lint
from pairloom.store.cures import stage_command
from pairloom.store.folder import MANIFEST
from pipeline.cli import main
from tests.inspection.synthetic import FLOW, edit, rewrite
from tests.pipeline.helpers import hashes
from tests.serving import pictures, write_list

ROWS = 4
TABLES = ("urls", "download", "curate", "regions", "tags", "negatives", "shards", "quarantine/download")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with params.yaml and a finished dataset `own`, one of whose pictures is missing."""
    folder = tmp_path_factory.mktemp("work")
    with pictures(folder / "www", ROWS) as host:
        write_list(folder / "my.csv", host, range(ROWS + 1))
        params = {
            "run": {"cluster": "inline"},
            "sample": {"urls": "my.csv"},
            "download": {"allow_hosts": [host]},
            "shards": {"val_share": 0.5},
        }
        (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            assert main(["run", "--out", "own", "--quiet"]) == 0
        yield folder


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("damage", ["flip", "remove"])
def test_the_cure_of_a_damaged_shard_works(
    dataset: Path, table: str, damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(dataset, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    whole = hashes(Path("own") / table)
    file = sorted((Path("own") / table).glob("*.parquet"))[0]
    content = file.read_bytes()
    file.unlink()
    if damage == "flip":
        file.write_bytes(bytes([*content[:60], content[60] ^ 4, *content[61:]]))
    fixes = {problem.fix for problem in lint(Path("own"), FLOW)}
    assert fixes
    for fix in sorted(fixes):
        follow(fix)
    assert lint(Path("own"), FLOW) == []
    assert hashes(Path("own") / table) == whole


def follow(fix: str) -> None:
    """Do what a cure says."""
    doomed = re.match(r"delete (\S+) if it is there", fix)
    if doomed:
        Path(doomed[1]).unlink(missing_ok=True)
    (command,) = re.findall("`(pairloom [^`]*)`", fix)
    assert main(shlex.split(command)[1:]) == 0, fix


PLANTED = {
    "curate": ("00000", edit("captions", 1, lambda captions: [captions[0] | {"lang": "xx"}])),
    "tags": ("00000", edit("image_id", 1, lambda _: bytes(16))),
    "negatives": ("00000", edit("short", 1, lambda short: [60000] * len(short))),
    "shards": ("train-00000", edit("sha256", 0, lambda _: bytes(32))),
}


def test_the_cures_of_wrong_values_a_damaged_index_and_a_wrong_manifest_work(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(dataset, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    whole = {name: hashes(Path("own") / name) for name in (*PLANTED, "download")}
    for table, (name, change) in PLANTED.items():
        rewrite(Path("own") / table, name, change)
    (damaged,) = Path("own/shards").glob("_pairloom/.val-*.index")
    damaged.write_bytes(damaged.read_bytes()[:-8])
    manifest = json.loads((Path("own/download") / MANIFEST).read_text(encoding="utf-8"))
    manifest["shards"][0]["bytes"] += 1
    (Path("own/download") / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    problems = lint(Path("own"), FLOW)
    assert {"language", "alignment", "short", "hash", "index", "bytes"} <= {problem.check for problem in problems}
    for fix in dict.fromkeys(problem.fix for problem in problems):  # in lint's order, which is that of the data
        follow(fix)
    assert lint(Path("own"), FLOW) == []
    assert {name: hashes(Path("own") / name) for name in whole} == whole


def test_what_recipe_check_says_makes_the_columns(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(dataset, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    check = ["recipe", "check", "unimo", "own/shards", "--json"]
    assert main(check) == 1
    found = json.loads(capsys.readouterr().out)
    params = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    for setting in found["settings"]:
        for section, values in yaml.safe_load(setting.replace(".", ": {", 1) + "}").items():
            params.setdefault(section, {}).update(values)
    Path("params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    for command in found["commands"]:
        assert main(shlex.split(command)[1:]) == 0, command
    capsys.readouterr()
    assert main(check) == 0
    assert lint(Path("own"), FLOW) == []


def test_the_command_names_the_dataset_and_the_stage() -> None:
    assert stage_command(Path("data/tags"), "tags") == "`pairloom stage tags`"
    assert stage_command(Path("my/own/tags"), "tags", redo=True) == "`pairloom stage tags --data my/own --redo`"
    assert stage_command(Path("own/urls"), "sample") == "`pairloom stage sample --data own`"
    assert stage_command(Path("own/quarantine/tags"), "tags") == "`pairloom stage tags --data own`"
    assert stage_command(Path("merged"), "shards") is None


COMMANDS = [
    ["run", "--urls", "my.csv", "--out", "a-file"],
    ["download", "my.csv", "--out", "a-file"],
    ["download", "my.csv", "--out", "a-file/below"],
    ["negatives", "my.csv", "--image-column", "url", "--out", "a-file"],
    ["texts", "texts.txt", "--out", "a-file"],
    ["info", "a-file"],
    ["lint", "nothing"],
    ["report", "--data", "nothing"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_folder_that_is_none_is_named_without_a_traceback(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "a-file").touch()
    (tmp_path / "my.csv").write_text("url,caption\nhttp://127.0.0.1:9/1.jpg,a dog\n", encoding="utf-8")
    (tmp_path / "texts.txt").write_text("a dog\n", encoding="utf-8")
    ran = pairloom(tmp_path, *command)
    assert ran.returncode == 1
    assert "Traceback" not in ran.stderr
    assert "fix:" in ran.stderr
    assert any(name in ran.stderr for name in ("a-file", "nothing"))


def test_no_scheduler_is_named_with_a_cure(dataset: Path) -> None:
    ran = pairloom(dataset, "stage", "tags", "--data", "own", "--redo", "--cluster", "tcp://127.0.0.1:1")
    if "nothing due" not in ran.stdout:
        assert ran.returncode == 1
    hurried = ("--set", "run.patience_s=1")
    own = pairloom(dataset, "run", "--out", "other", "--cluster", "tcp://127.0.0.1:1", *hurried)
    assert own.returncode == 1
    assert "no Dask scheduler answers" in own.stderr
    assert "tcp://127.0.0.1:1" in own.stderr
    assert "Traceback" not in own.stderr


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    command = f"{shlex.quote(sys.executable)} -m pipeline.cli recipe show uniter | head -n 1"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    ran = subprocess.run(["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert len(ran.stdout.splitlines()) == 1
    assert ran.stderr == ""


@pytest.mark.parametrize("command", ["recipe show uniter", "lint nothing --json", "lint nothing"])
def test_a_reader_that_is_gone_before_anything_is_said_is_no_error(command: str, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    arguments = [sys.executable, "-m", "pipeline.cli", *command.split()]
    ran = subprocess.Popen(arguments, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert ran.stdout is not None
    ran.stdout.close()
    assert b"Traceback" not in ran.communicate()[1]


def pairloom(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    command = [sys.executable, "-m", "pipeline.cli", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
