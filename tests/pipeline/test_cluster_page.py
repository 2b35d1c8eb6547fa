"""The page on clusters: what it says for ssh and SLURM runs here, with loopback in place of the other machines."""

from __future__ import annotations

import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml

from pipeline.config import RunConfig
from pipeline.executor import Options, run_stage
from tests.pipeline.clusters import CHECKOUT
from tests.pipeline.helpers import hashes, write_texts
from tests.pipeline.words import Config

PAGE = (CHECKOUT / "docs/how-to/cluster.md").read_text(encoding="utf-8")
STAGE = "tests.pipeline.words"
TEXTS = [f"text {row}" for row in range(12)]
SBATCH = """#!/bin/sh
job=$(cat "$1")  # the file is removed when this ends
setsid sh -c "$job" >/dev/null 2>&1 &
echo "Submitted batch job $!"
"""
SCANCEL = """#!/bin/sh
for job; do kill -KILL -- "-$job"; done
"""


def block(language: str, title: str) -> str:
    """The first block of this language under the title."""
    found = re.search(rf"^## {re.escape(title)}$.*?^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


def adapted(text: str, changes: Mapping[str, str]) -> str:
    """The block with this machine's names in place of the page's, each of which must stand there."""
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A list, and `expected` beside it: what one process makes of it."""
    for folder in (tmp_path / "data", tmp_path / "expected"):
        write_texts(TEXTS, folder)
    run_stage(STAGE, Config(), tmp_path / "expected", Options(RunConfig(cluster="inline"), plain=True))
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"words": {}}), encoding="utf-8")
    return tmp_path / "data"


def stage_command(data: Path) -> list[str]:
    """What takes the place of `pairloom run`."""
    options = ("--data", str(data), "--params", str(data.parent / "params.yaml"))
    return ["pairloom", "stage", STAGE, *options, "--metrics", str(data.parent / "metrics")]


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on PATH for commands of this test, with `pairloom`."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script(folder / "pairloom", f'#!/bin/sh\nexec {sys.executable} -m pipeline.cli "$@"\n')
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(CHECKOUT))
    return folder


def script(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_slurm(data: Path, commands: Path, tmp_path: Path) -> None:
    pytest.importorskip("dask_jobqueue")
    script(commands / "sbatch", SBATCH)
    script(commands / "scancel", SCANCEL)
    asked = '"pairloom", "run", "--urls", "my.csv", "--out", "/shared/my-data"'
    changes = {
        "/shared/pairloom/.venv/bin/python": sys.executable,
        "cores=16": "cores=1",
        "processes=16": "processes=1",
        "jobs=20": "jobs=1",
        'local_directory="/tmp"': f"local_directory={str(tmp_path)!r}",
        asked: ", ".join(map(repr, stage_command(data))),
    }
    program = adapted(block("python", "SLURM"), changes)
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=90
    )
    assert done.returncode == 0, done.stderr
    assert "words: 12 rows in, 12 out" in done.stdout
    assert hashes(data) == hashes(data.parent / "expected")


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[int]:
    """The port of an ssh server that runs commands on this machine; they end with it."""
    file = tmp_path / "port"
    command = [sys.executable, "-m", "tests.pipeline.sshd", str(file)]
    server = subprocess.Popen(command, cwd=CHECKOUT, start_new_session=True, stderr=subprocess.DEVNULL)
    while not (file.exists() and file.read_text(encoding="utf-8").endswith("\n")):
        assert server.poll() is None
        time.sleep(0.05)
    yield int(file.read_text(encoding="utf-8"))
    os.killpg(server.pid, signal.SIGKILL)
    server.wait(30)


@pytest.mark.skipif(shutil.which("ssh") is None, reason="there is no ssh")
def test_machines_with_ssh(data: Path, commands: Path, tmp_path: Path, sshd: int) -> None:
    config = tmp_path / "ssh_config"
    config.write_text(
        f"Host *\n HostName 127.0.0.1\n Port {sshd}\n StrictHostKeyChecking no\n"
        " UserKnownHostsFile /dev/null\n LogLevel ERROR\n",
        encoding="utf-8",
    )
    (tmp_path / "pairloom").mkdir()
    (tmp_path / "pairloom/.venv").symlink_to(Path(sys.executable).parents[1])
    changes = {
        "8786": "39786",
        "$(hostname)": "127.0.0.1",
        "ssh $host": f"ssh -F {config} $host",
        "/shared/pairloom": str(tmp_path / "pairloom"),
        "--nworkers 16": "--nworkers 1",
        "pairloom run --urls my.csv --out /shared/my-data": " ".join(stage_command(data)),
    }
    program = adapted(block("sh", "Machines with ssh"), changes)
    done = subprocess.run(
        ["bash", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=90
    )
    assert "words: 12 rows in, 12 out" in done.stdout, done.stderr
    assert hashes(data) == hashes(data.parent / "expected")
