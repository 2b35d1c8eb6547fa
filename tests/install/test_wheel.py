"""The wheel: it holds every file that the rooms have, and works in an environment outside the checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from pairloom import open_table
from tests.serving import pictures, write_list
from tests.test_house import MAY_IMPORT

CHECKOUT = Path(__file__).resolve().parents[2]
SOURCE_ARCHIVE = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as `python -m build` does, of the source archive of the tracked files alone, as a fresh clone has them."""
    clone, out = tmp_path_factory.mktemp("clone"), tmp_path_factory.mktemp("wheel")
    for name in tracked():
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        (clone / name).write_bytes((CHECKOUT / name).read_bytes())
    subprocess.run([sys.executable, "-c", SOURCE_ARCHIVE, str(out)], cwd=clone, check=True, capture_output=True)
    (archive,) = out.glob("pairloom-*.tar.gz")
    options = ["--no-deps", "--no-index", "--no-build-isolation", "--quiet", "--wheel-dir", str(out)]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(archive)], check=True)
    (found,) = out.glob("pairloom-*.whl")
    return found


def tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout
    return [name for name in listed.splitlines() if not name.startswith(("tests/", "docs/", "benchmarks/"))]


def test_it_holds_every_file_of_every_room(wheel: Path) -> None:
    wanted = {name for name in tracked() if name.partition("/")[0] in MAY_IMPORT}
    found = set(zipfile.ZipFile(wheel).namelist())
    assert wanted - found == set()
    assert {name.partition("/")[0] for name in found if ".dist-info" not in name} == set(MAY_IMPORT)


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """bin of a clean environment that has the wheel, and this one's packages behind it."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    place = Path(subprocess.check_output([str(python), "-c", PURELIB], text=True).strip())
    # A path in a .pth file is only searched: the editable installation behind it is not set up.
    (place / "others.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", "--quiet"]
    subprocess.run([*command, "--ignore-installed", str(wheel)], check=True)
    return folder / "bin"


PURELIB = "import sysconfig; print(sysconfig.get_path('purelib'))"


def run(bin_folder: Path, folder: Path, *command: str) -> str:
    """What a program of the environment says."""
    path = os.pathsep.join((str(bin_folder), str(Path(sys.executable).parent), "/usr/bin", "/bin"))
    variables = {"PATH": path, "HOME": str(folder), "LANG": "C.UTF-8"}
    ran = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, (command, ran.stdout[-2000:], ran.stderr[-2000:])
    return ran.stdout


def test_what_runs_is_the_wheel(environment: Path, tmp_path: Path) -> None:
    script = f"import importlib; [print(importlib.import_module(room).__file__) for room in {sorted(MAY_IMPORT)}]"
    for line in run(environment, tmp_path, str(environment / "python"), "-c", script).splitlines():
        assert Path(line).is_relative_to(environment.parent)


def test_the_files_that_it_brings_are_read(environment: Path, tmp_path: Path) -> None:
    assert len(json.loads(run(environment, tmp_path, "pairloom", "recipe", "list", "--json"))["recipes"]) == 21
    assert "butd-r101" in run(environment, tmp_path, "pairloom", "detector", "list")
    assert "extends" in run(environment, tmp_path, "pairloom", "recipe", "show", "villa")
    (tmp_path / "captions.csv").write_text(
        "image_id,caption\n1,a red dog\n2,a red cat\n3,a blue dog\n", encoding="utf-8"
    )
    assert "3" in run(environment, tmp_path, "pairloom", "negatives", "captions.csv", "--out", "mined", "--quiet")
    assert run(environment, tmp_path, "pairloom", "--version").startswith("pairloom 0.")
    assert "detectron2" in run(environment, tmp_path, "pairloom", "setup", "detectron2")


@pytest.fixture(scope="module")
def project(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """(a data project of ten rows after `dvc repro`, the pictures' host)."""
    folder = tmp_path_factory.mktemp("own")
    with pictures(folder / "www", 14) as host:
        write_list(folder / "my.csv", host, range(10))
        run(environment, folder, "pairloom", "init", "my-data", "--urls", "my.csv")
        settings = folder / "my-data" / "params.yaml"
        text = settings.read_text(encoding="utf-8")
        settings.write_text(text.replace("allow_hosts: []", f"allow_hosts: ['{host}']"), encoding="utf-8")
        run(environment, folder / "my-data", "dvc", "repro", "shards")
        run(environment, folder / "my-data", "pairloom", "report")
        yield folder / "my-data", host


@pytest.mark.slow
@pytest.mark.long
def test_a_project_of_ones_own_goes_from_a_list_to_shards_and_a_report(project: tuple[Path, str]) -> None:
    folder, _ = project
    assert open_table(folder / "data" / "download").rows == 10
    rejected = open_table(folder / "data" / "shards").rows + sum(
        entry.rejected.get("no-regions", 0) for entry in open_table(folder / "data" / "regions").shards
    )
    assert rejected == 10
    assert (folder / "data" / "report" / "index.html").stat().st_size > 10_000
    settings = yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))
    assert (settings["sample"]["rows_per_shard"], settings["shards"]["val_share"]) == (1000, 0.01)
    assert settings["shards"]["shard_bytes"] == 256 << 20
    assert "serve" not in settings["download"]


@pytest.mark.slow
@pytest.mark.long
def test_in_it_nothing_runs_twice_and_a_changed_setting_or_version_runs_what_depends_on_it(
    environment: Path, project: tuple[Path, str]
) -> None:
    folder, host = project
    assert "up to date" in run(environment, folder, "dvc", "repro", "shards")
    settings = (folder / "params.yaml").read_text(encoding="utf-8")
    (folder / "params.yaml").write_text(settings.replace("top_k: 30", "top_k: 3"), encoding="utf-8")
    said = run(environment, folder, "dvc", "repro", "shards")
    assert "Running stage 'negatives'" in said
    assert "Running stage 'regions'" not in said
    versions = (folder / "versions.yaml").read_text(encoding="utf-8")
    (folder / "versions.yaml").write_text(versions.replace("tags: ", "tags: 0."), encoding="utf-8")
    said = run(environment, folder, "dvc", "repro", "tags")
    assert "Running stage 'tags'" in said
    assert "Running stage 'regions'" not in said
    assert json.loads(run(environment, folder, "pairloom", "init", ".", "--refresh", "--json"))["changed"] == ["tags"]
    assert (folder / "versions.yaml").read_text(encoding="utf-8") == versions
    write_list(folder.parent / "my.csv", host, range(14))
    said = run(environment, folder, "dvc", "repro", "download")
    assert "Running stage 'download'" in said
    assert open_table(folder / "data" / "download").rows == 14
    assert len(open_table(folder / "data" / "download").shards) == 2
