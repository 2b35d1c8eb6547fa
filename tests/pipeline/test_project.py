"""`pairloom init`: what it writes, what it refuses, and how an upgrade is noted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pairloom.store.folder import MANIFEST
from pairloom.typed import build
from pipeline import project
from pipeline.cli import main
from pipeline.stage import load, on_request, order

FILES = {"dvc.yaml", "params.yaml", "versions.yaml", ".gitignore"}


def init(folder: Path, *options: str) -> int:
    return main(["init", str(folder), *options])


def texts(folder: Path) -> dict[str, str]:
    return {file.name: file.read_text(encoding="utf-8") for file in folder.iterdir() if file.is_file()}


def test_it_sets_up_dvc_without_git_and_dvc_reads_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "my-data"
    assert init(folder) == 0
    assert texts(folder).keys() >= FILES
    assert "no_scm = true" in (folder / ".dvc" / "config").read_text(encoding="utf-8").lower()
    listed = subprocess.run(["dvc", "stage", "list", "--name-only"], cwd=folder, capture_output=True, text=True)
    assert listed.stdout.split() == ["sample", *order()[:-1], *on_request(), "shards", "report"]


@pytest.mark.parametrize("inside", [".", "my-data"])
def test_in_a_git_repository_dvc_belongs_to_it(inside: str, tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    folder = tmp_path / inside
    assert init(folder) == 0
    assert "no_scm" not in (folder / ".dvc" / "config").read_text(encoding="utf-8")
    ignored = subprocess.run(["git", "check-ignore", "data/pairs"], cwd=folder, capture_output=True, check=False)
    assert ignored.returncode == 0


def test_a_folder_that_has_such_files_is_refused_by_their_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "dvc.yaml").write_text("mine", encoding="utf-8")
    (tmp_path / "params.yaml").write_text("mine, too", encoding="utf-8")
    assert init(tmp_path) == 1
    assert "the folder has dvc.yaml, params.yaml already" in capsys.readouterr().err
    assert texts(tmp_path) == {"dvc.yaml": "mine", "params.yaml": "mine, too"}
    assert not (tmp_path / ".dvc").exists()


def test_what_the_user_set_up_stays(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("*.log\n/data/", encoding="utf-8")
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text("[core]\n    no_scm = True\n", encoding="utf-8")
    assert init(tmp_path) == 0
    lines = texts(tmp_path)[".gitignore"].splitlines()
    assert lines[:2] == ["*.log", "/data/"]
    assert lines.count("/data/") == 1
    assert (tmp_path / ".dvc" / "config").read_text(encoding="utf-8") == "[core]\n    no_scm = True\n"


def test_a_list_that_is_not_there_is_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert init(tmp_path / "new", "--urls", str(tmp_path / "no.csv")) == 1
    assert "there is no such list" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_list_beside_the_project_is_named_so_that_dvc_finds_it(tmp_path: Path) -> None:
    inside, outside = tmp_path / "new" / "my list.csv", tmp_path / "other.csv"
    inside.parent.mkdir()
    for file, named in ((inside, "my list.csv"), (outside, str(outside))):
        file.write_text("url,caption\n", encoding="utf-8")
        for name in ("dvc.yaml", "params.yaml", "versions.yaml"):
            (tmp_path / "new" / name).unlink(missing_ok=True)
        assert init(tmp_path / "new", "--urls", str(file)) == 0
        params = yaml.safe_load((tmp_path / "new" / "params.yaml").read_text(encoding="utf-8"))
        assert params["sample"]["urls"] == named


def test_its_settings_are_those_of_the_stages(tmp_path: Path) -> None:
    project.write(tmp_path, "my.csv")
    params = yaml.safe_load((tmp_path / "params.yaml").read_text(encoding="utf-8"))
    for name in order():  # the defaults are for real lists. What is written only shows them
        given = build(load(name).config_type, params[name], name)
        assert given == load(name).config_type(), name


def test_no_file_of_ours_is_a_dependency_and_every_stage_has_its_version(tmp_path: Path) -> None:
    for name, stage in project.stages("my.csv").items():
        assert all(dep.startswith(("data/", "${sample.urls}")) for dep in stage.get("do", stage).get("deps", [])), name
    assert project.versions().keys() == {"pairloom", "sample", *order(), *on_request()}


def test_a_stage_says_that_the_project_notes_another_version_than_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.csv").write_text("url,caption\nhttp://host/1.jpg,a dog\n", encoding="utf-8")
    project.write(tmp_path, "my.csv")
    assert main(["stage", "sample"]) == 0
    assert "--refresh" not in capsys.readouterr().err
    noted = texts(tmp_path)["versions.yaml"]
    (tmp_path / "versions.yaml").write_text(noted.replace("sample: '1'", "sample: '0'"), encoding="utf-8")
    assert main(["stage", "sample"]) == 0
    assert "pairloom init --refresh" in capsys.readouterr().err
    assert project.refresh(tmp_path) == ["sample"]
    assert texts(tmp_path)["versions.yaml"] == noted


def test_an_upgraded_project_is_told_what_git_should_ignore_now(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project.write(tmp_path, "my.csv")
    whole = texts(tmp_path)[".gitignore"]
    mine = "*.swp\n" + whole.replace("/metrics/facts/\n", "")  # as earlier releases wrote it, and a line of one's own
    (tmp_path / ".gitignore").write_text(mine, encoding="utf-8")
    for told in ("added to .gitignore: /metrics/facts/\n", "no change\n"):
        assert main(["init", str(tmp_path), "--refresh"]) == 0
        assert capsys.readouterr().out == told
        assert texts(tmp_path)[".gitignore"] == mine + "/metrics/facts/\n"


def test_repro_finds_pairloom_without_an_activated_environment(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    assert init(folder) == 0
    (folder / "urls.csv").write_text("url,caption\nhttp://127.0.0.1:9/1.jpg,a dog\n", encoding="utf-8")
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
    }
    command = [sys.executable, "-m", "pipeline.cli", "repro", "sample"]
    ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert (folder / f"data/urls/{MANIFEST}").is_file()
    again = subprocess.run(
        [*command, "--dry"], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert "didn't change" in again.stdout
