"""A data project under DVC as researchers use it: experiments, optional tables, and shards pushed and pulled."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from pairloom import open_table, verify
from pairloom.errors import StoreError
from pairloom.store.folder import ASIDE, MANIFEST, open_folder
from pairloom.store.writing import Writer
from tests.bucket import serving
from tests.formats.datasets.layouts import picture, write_tar
from tests.pipeline.helpers import hashes
from tests.serving import pictures, write_list

pytestmark = pytest.mark.slow
DVC_PAGE = (Path(__file__).resolve().parents[2] / "docs/how-to/dvc.md").read_text(encoding="utf-8")

ROWS = 8
TABLES = ("urls", "download", "curate", "regions", "tags", "negatives", "shards")
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

    def facts(self, stage: str) -> dict[str, int]:
        found: dict[str, int] = json.loads((self.folder / f"metrics/facts/{stage}.json").read_text(encoding="utf-8"))
        return found


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """One after `dvc repro` and a commit. Its shards and models are in DVC's cache."""
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
    assert not [name for name in tracked if name.startswith(("data/", "models/", "metrics/facts/"))]
    assert project.run("git", "status", "--short") == ""


def test_dvc_compares_some_ten_numbers_of_each_stage(project: Project) -> None:
    (shown,) = json.loads(project.run("dvc", "metrics", "show", "--json")).values()
    found = {name: one["data"] for name, one in shown["data"].items()}
    numbers = {name: len(list(leaves(data))) for name, data in found.items()}
    assert 4 <= min(numbers.values()) <= max(numbers.values()) <= 10, numbers
    assert found["metrics/negatives.json"]["rows_out"] == ROWS
    assert set(found["metrics/train-clip.json"]["r_at_1"]) == {"text_to_image", "image_to_text"}


def leaves(data: object) -> Iterator[object]:
    """What `dvc metrics show` makes a column of."""
    for value in data.values() if isinstance(data, dict) else ():
        yield from leaves(value) if isinstance(value, dict) else [value]


def test_stages_that_run_again_without_a_change_leave_the_lock_as_it_is(project: Project) -> None:
    lock, models = (project.folder / name for name in ("dvc.lock", "models/clip"))
    before, trained = lock.read_bytes(), hashes(models)
    made = project.facts("train-clip")
    for stage in ("tags", "train@clip"):
        assert "Running stage" in project.run("dvc", "repro", "--force", "--single-item", stage)
    assert project.facts("train-clip")["time"] != made["time"]
    assert hashes(models) == trained
    assert lock.read_bytes() == before


def test_the_folders_of_tables_that_nothing_asks_for_hold_a_note(project: Project) -> None:
    for name in ("patches", "qa", "similar", "neighbours"):
        note = project.folder / "data" / name / ASIDE / "not-asked.txt"
        assert f"`shards.{name}: true`" in note.read_text(encoding="utf-8")
        assert [file.name for file in note.parent.iterdir()] == [note.name]


@pytest.mark.parametrize("way", ["temp", "queue"])
@pytest.mark.long
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
    assert metrics["metrics/download.json"]["rows_out"] == metrics["metrics/negatives.json"]["rows_out"] == ROWS


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
    for stage in ("download", "score", "curate", "regions", "tags"):
        assert f"Stage '{stage}' didn't change" in said
    assert len(project.asked) == before
    data = project.folder / "data"
    assert sorted(file.name for file in (data / "similar").iterdir()) == ["00000.parquet", ASIDE]
    assert open_table(data / "similar").rows == ROWS
    assert project.facts("similar")["rows_out"] == ROWS
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
        assert (one.facts("download")["shards"], one.facts("download")["shards_made"]) == (number + 1, 1)
    found = open_table(one.folder / "data/download")
    urls = [url for _, table in found.tables(["url"]) for url in table["url"].to_pylist()]
    assert urls == ["webdataset:0.tar/0.jpg", "webdataset:1.tar/1.jpg"]
    assert "didn't change" in one.run("dvc", "repro", "download")


@pytest.mark.long
def test_a_dataset_in_a_bucket_goes_through_dvc(tmp_path: Path) -> None:
    with pictures(tmp_path / "www", 4) as host, serving("pairs") as (server, client):
        (tmp_path / "own").mkdir()
        one = Project(tmp_path / "own", [])
        write_list(one.folder / "my.csv", host, range(4))
        one.run("pairloom", "init", ".", "--urls", "my.csv")
        change(one.folder / "params.yaml", host)
        command = re.search(r"^sed -i .*$", DVC_PAGE, re.MULTILINE)
        assert command is not None
        one.run("sh", "-c", command[0])
        one.run("dvc", "repro", "curate")
        for table in ("urls", "download", "curate", "quarantine/curate"):
            there = client.get_object(Bucket="pairs", Key=f"data/{table}/{MANIFEST}")["Body"].read()
            assert (one.folder / "data" / table / MANIFEST).read_bytes() == there
        assert not list(one.folder.glob("data/*/*.parquet"))
        assert open_folder(one.folder / "data/curate").read("00000").num_rows == 4
        with pytest.raises(StoreError, match=r"stands for s3://pairs/data/curate"):
            Writer.open(one.folder / "data/curate", open_folder(one.folder / "data/curate").header)
        server.asked.clear()
        assert "didn't change" in one.run("dvc", "repro", "curate")
        assert server.asked == []
        settings = yaml.safe_load((one.folder / "params.yaml").read_text(encoding="utf-8"))
        settings["curate"] = {"min_words": 5}
        (one.folder / "params.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
        said = one.run("dvc", "repro", "curate")
        assert [f"Running stage '{stage}'" in said for stage in ("download", "curate")] == [False, True]
        assert open_folder(one.folder / "data/curate").rows == 4


def test_what_is_forgotten_does_not_come_back_under_repro_and_no_shard_is_made_again(project: Project) -> None:
    """The last test of this file: the project has a row less from here on."""
    data, before = project.folder / "data", len(project.asked)
    project.run("dvc", "repro")
    url = open_folder(data / "download").read("00000", ["url"])["url"][2].as_py()
    (project.folder / "removed.txt").write_text(f"{url}\n", encoding="utf-8")
    project.run("pairloom", "forget", "data", "--ids", "removed.txt")
    left = {name: hashes(data / name) for name in TABLES}
    assert "changed" in project.run("dvc", "status", "shards")
    project.run("dvc", "repro")
    assert {name: hashes(data / name) for name in TABLES} == left
    assert [project.facts(name)["shards_made"] for name in TABLES if name != "urls"] == [0] * (len(TABLES) - 1)
    assert len(project.asked) == before
    for name in ("urls", "download", "curate", "shards"):
        rows = [table for _, table in open_folder(data / name).tables(["url"])]
        assert sum(table.num_rows for table in rows) == ROWS - 1
        assert url not in [one for table in rows for one in table["url"].to_pylist()]
    assert "up to date" in project.run("dvc", "status")
