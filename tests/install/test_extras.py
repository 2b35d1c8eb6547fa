"""What works without the optional packages, and what is said where one is missing."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from PIL import Image

from pipeline.extras import BROUGHT_BY, OTHERWISE
from tests.serving import pictures

CHECKOUT = Path(__file__).resolve().parents[2]
# Run a command of pairloom in a Python that finds none of the optional packages. Workers are not started.
BARE = """
import sys
class Bare:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in ABSENT else self.finder.find_spec(name, path, target)
    def __getattr__(self, name):
        return getattr(self.finder, name)
sys.meta_path[:] = [Bare(finder) for finder in sys.meta_path]
from pipeline.cli import main
sys.exit(main(sys.argv[1:]))
""".replace("ABSENT", str(set(BROUGHT_BY)))


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with pictures(tmp_path_factory.mktemp("www"), 12) as address:
        yield address


def bare(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", BARE, *arguments]
    environment = {"PYTHONPATH": str(CHECKOUT), "PATH": "/usr/bin:/bin", "HOME": str(folder)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_download_curate_mine_verify_and_look_need_no_extra(host: str, tmp_path: Path) -> None:
    lines = [
        f"http://{host}/{number}.jpg,a small {word} thing of {number}" for number, word in enumerate("abcdefghijkl")
    ]
    (tmp_path / "list.csv").write_text("url,caption\n" + "\n".join(lines) + "\n", encoding="utf-8")
    inline = ("--cluster", "inline", "--quiet")
    commands = [
        ("download", "list.csv", "--out", "got", "--allow-host", host, *inline),
        ("curate", "got", "--out", "clean", *inline),
        ("verify", "clean", "--quiet"),
        ("info", "clean"),
        ("lint", "clean/curate"),
        ("preview", "clean/curate", "--row", "00000:0"),
        ("negatives", "list.csv", "--image-column", "url", "--out", "mined", "--quiet"),
        ("recipe", "list"),
        ("texts", "list.txt", "--out", "texts"),
        ("report", "--data", "clean"),
    ]
    (tmp_path / "list.txt").write_text("one text\nanother\n", encoding="utf-8")
    for command in commands:
        ran = bare(tmp_path, *command)
        assert ran.returncode == 0, (command, ran.stderr[-2000:])


@pytest.mark.parametrize(
    ("command", "package", "extra"),
    [
        (("train", "--recipe", "uniter", "--shards", "none"), "torch", "train"),
        (("run", "--params", "demo.yaml"), "skimage", "demo,regions"),
        (("run", "--urls", "demo", "--out", "first"), "skimage", "demo,regions"),
        (("stage", "sample"), "skimage", "demo"),
        (("shards", "filter", "none", "--where", "width > 3", "--out", "x"), "DuckDB", "sql"),
        (("detector", "list"), "safetensors", "regions"),
        (("extract", "pictures", "--out", "regions", "--cluster", "inline"), "EfficientNet", "regions"),
    ],
)
def test_a_missing_extra_is_named_with_its_cure(
    command: tuple[str, ...], package: str, extra: str, tmp_path: Path
) -> None:
    (tmp_path / "params.yaml").write_text("{}", encoding="utf-8")
    (tmp_path / "demo.yaml").write_text(f"sample: {{urls: {CHECKOUT}/demo/demo.yaml}}", encoding="utf-8")
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "pictures" / "one.png")
    ran = bare(tmp_path, *command, "--json")
    assert ran.returncode == 1, ran.stderr[-2000:]
    assert "Traceback" not in ran.stderr
    said = json.loads(ran.stdout.splitlines()[-1])
    assert package in said["what"]
    assert said["fix"].startswith(f"install pairloom[{extra}]")


def test_the_loader_says_what_it_needs(tmp_path: Path) -> None:
    script = BARE.partition("from pipeline.cli")[0] + "from pairloom import open_table, Loader"
    environment = {"PYTHONPATH": str(CHECKOUT), "PATH": "/usr/bin:/bin"}
    ran = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert "install pairloom[train]" in ran.stderr


def test_every_extra_that_is_named_is_one() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(BROUGHT_BY.values()) <= project["optional-dependencies"].keys()
    for named in OTHERWISE.values():
        assert set(named.split(",")) <= project["optional-dependencies"].keys()
    base = {Requirement(line).name for line in project["dependencies"]}
    assert not base & {"torch", "torchvision", "transformers", "dvc", "duckdb", "emoji", "requests"}
