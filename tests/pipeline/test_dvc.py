"""A data project under DVC as researchers use it: experiments, optional tables, and shards pushed and pulled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from pairloom import open_table, verify
from pairloom.store.folder import ASIDE
from tests.formats.datasets.layouts import picture, write_tar
from tests.serving import pictures, write_list

pytestmark = pytest.mark.slow

ROWS = 8
MADE_BEFORE = ("download", "curate", "regions", "tags")  # what another negatives.top_k leaves as it is


@dataclass(frozen=True)
class Project:
    """A data project in a git repository, and what was asked of the server of its pictures."""

    folder: Path
    asked: list[str]

    def run(self, *command: str) -> str:
        """What a program said. The programs of this environment come first."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        who = {f"GIT_{role}_{part}": "tester" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")}
        variables = os.environ | who | {"PATH": path, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
        ran = subprocess.run(
            command, cwd=self.folder, env=variables, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert ran.returncode == 0, (command, ran.stdout)
        return ran.stdout

    def commit(self) -> None:
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", "as it is")

    def experiments(self) -> list[dict[str, object]]:
        """What `dvc exp show` says of each finished experiment."""
        shown = json.loads(self.run("dvc", "exp", "show", "--json"))
        revisions = [one for each in shown for one in each["experiments"] or [] for one in one["revs"]]
        return [one["data"] for one in revisions]

    def metrics(self, stage: str) -> dict[str, int]:
        found: dict[str, int] = json.loads((self.folder / f"metrics/{stage}.json").read_text(encoding="utf-8"))
        return found


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """One after `dvc repro` and a commit; its shards and models are in DVC's cache."""
    folder, asked = tmp_path_factory.mktemp("own"), list[str]()
    with pictures(tmp_path_factory.mktemp("www"), ROWS, asked) as host:
        one = Project(folder, asked)
        one.run("git", "init", "--quiet")
        write_list(folder / "my.csv", host, range(ROWS))
        one.run("pairloom", "init", ".", "--urls", "my.csv")
        change(folder / "params.yaml", host)
        pipeline = (folder / "dvc.yaml").read_text(encoding="utf-8")
        pipeline = pipeline.replace("&cached false", "&cached true")
        pipeline = pipeline.replace("&shards data/shards/_pairloom/manifest.json", "&shards data/shards")
        (folder / "dvc.yaml").write_text(pipeline, encoding="utf-8")
        one.run("dvc", "repro")
        one.commit()
        yield one


def change(file: Path, host: str) -> None:
    params = yaml.safe_load(file.read_text(encoding="utf-8"))
    params["download"]["allow_hosts"] = [host]
    params["run"]["cluster"] = "inline"
    params["shards"]["val_share"] = 0.5
    params["train"] = {"clip": {"steps": 2, "threads": 1}}
    file.write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")


def test_git_has_the_metrics_and_plots_and_nothing_large(project: Project) -> None:
    tracked = project.run("git", "ls-files").split()
    assert {"dvc.lock", "metrics/download.json", "metrics/train-clip.json", "plots/train-clip.csv"} <= set(tracked)
    assert not [name for name in tracked if name.startswith(("data/", "models/"))]
    assert project.run("git", "status", "--short") == ""


def test_the_folders_of_tables_that_nothing_asks_for_hold_a_note(project: Project) -> None:
    for name in ("patches", "qa", "similar"):
        note = project.folder / "data" / name / ASIDE / "not-asked.txt"
        assert f"`shards.{name}: true`" in note.read_text(encoding="utf-8")
        assert [file.name for file in note.parent.iterdir()] == [note.name]


@pytest.mark.parametrize("way", ["temp", "queue"])
def test_an_experiment_in_a_copy_links_what_the_workspace_has_and_makes_no_request(project: Project, way: str) -> None:
    before = len(project.asked)
    top_k = {"temp": 3, "queue": 4}[way]
    said = project.run("dvc", "exp", "run", f"--{way}", "--set-param", f"negatives.top_k={top_k}", "shards")
    if way == "queue":
        project.run("dvc", "exp", "run", "--run-all")
    else:
        for name in MADE_BEFORE:
            assert f"{name}: 1 shards are linked" in said
    assert len(project.asked) == before
    found = [one for one in project.experiments() if params_of(one)["negatives"]["top_k"] == top_k]
    assert len(found) == 1
    metrics = {name: value["data"] for name, value in found[0]["metrics"].items()}  # type: ignore[attr-defined]
    assert metrics["metrics/download.json"]["shards_reused"] == 1
    assert metrics["metrics/negatives.json"]["shards_made"] == 1


def params_of(experiment: dict[str, object]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = experiment["params"]["params.yaml"]["data"]  # type: ignore[index]
    return found


def test_a_second_clone_pulls_the_shards_and_models_and_has_nothing_to_do(project: Project, tmp_path: Path) -> None:
    project.run("dvc", "remote", "add", "--force", "--default", "store", str(tmp_path / "remote"))
    project.commit()
    project.run("dvc", "push")
    project.run("git", "clone", "--quiet", str(project.folder), str(tmp_path / "clone"))
    clone = Project(tmp_path / "clone", project.asked)
    (clone.folder / "my.csv").write_bytes((project.folder / "my.csv").read_bytes())
    before = len(project.asked)
    clone.run("dvc", "pull")
    assert {path.name for path in (clone.folder / "data").iterdir()} == {"shards"}
    assert verify(clone.folder / "data/shards") == []
    assert open_table(clone.folder / "data/shards").rows == open_table(project.folder / "data/shards").rows
    assert (clone.folder / "models/clip").is_dir()
    said = clone.run("dvc", "repro", "--allow-missing")
    assert "Running stage" not in said
    assert len(project.asked) == before
    assert clone.run("git", "status", "--short") == ""


def test_an_experiment_in_the_workspace_makes_only_what_changed(project: Project) -> None:
    before = len(project.asked)
    said = project.run("dvc", "exp", "run", "--set-param", "negatives.top_k=2", "--set-param", "shards.similar=true")
    for stage in ("download", "curate", "regions", "tags"):
        assert f"Stage '{stage}' didn't change" in said
    assert len(project.asked) == before
    data = project.folder / "data"
    assert sorted(file.name for file in (data / "similar").iterdir()) == ["00000.parquet", ASIDE]
    assert open_table(data / "similar").rows == ROWS
    assert project.metrics("similar")["rows_out"] == ROWS
    shards = open_table(data / "shards")
    assert sum(shards.read(entry.name, ["similar"])["similar"].null_count for entry in shards.shards) == 0


def test_a_data_set_on_disk_goes_through_dvc_and_only_its_new_part_is_read(tmp_path: Path) -> None:
    one = Project(tmp_path / "own", [])
    (one.folder / "tars").mkdir(parents=True)
    for number in range(2):
        members = [(f"{number}.jpg", picture(number)), (f"{number}.txt", f"a red cup of {number}".encode())]
        write_tar(one.folder / f"tars/{number}.tar", members)
        if number == 0:
            one.run("pairloom", "init", ".", "--urls", "tars", "--as", "webdataset")
        one.run("dvc", "repro", "download")
        assert (one.metrics("download")["shards"], one.metrics("download")["shards_made"]) == (number + 1, 1)
    found = open_table(one.folder / "data/download")
    urls = [url for _, table in found.tables(["url"]) for url in table["url"].to_pylist()]
    assert urls == ["webdataset:0.tar/0.jpg", "webdataset:1.tar/1.jpg"]
    assert "didn't change" in one.run("dvc", "repro", "download")
