"""A disk that is full or read-only: every command says so in one error, on a small disk of its own."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.pipeline.clusters import CHECKOUT

# A disk of 3 MB, on which the list fits and what is asked for does not.
MOUNT = 'mount -t tmpfs -o size=3m none "$0" && cd "$0" && exec "$@"'
PROGRAM = """
import contextlib, io, json, os, shutil, subprocess
from pathlib import Path
from pipeline.cli import main
from tests.pipeline.helpers import write_texts

QUIET = ["--metrics", "metrics", "--data", "data", "--set", "run.cluster=inline"]

def sample():
    Path("list.csv").write_text("url,caption\\n" + "".join(f"http://h/{n},{n * 7919 ** 5}\\n" for n in range(60_000)))
    return main(["stage", "sample", "--set", "sample.urls=list.csv", *QUIET])

def hoard(where):
    write_texts([str(n * 7919 ** 9) for n in range(40)], Path("data"))
    Path("filler").write_bytes(b"x" * (2 << 20))
    return main(["stage", "tests.pipeline.hoard", "--set", f"hoard.where={where}", *QUIET])

def read_only():
    subprocess.run(["mount", "-o", "remount,ro", str(Path.cwd())], check=True)
    return main(["stage", "sample", "--set", "sample.urls=/dev/null", *QUIET])

found = {}
for name, call in {"sample": sample, "index": lambda: hoard("index"), "shard": lambda: hoard("write"),
                   "read-only": read_only}.items():
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        code = call()
    found[name] = [code, said.getvalue()]
    if name != "read-only":
        for path in Path().iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str]]:
    """Of each command its exit code and what it said on standard error."""
    folder = tmp_path_factory.mktemp("disk")
    prefix = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", MOUNT, str(folder))
    if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a disk")
    environment = {"PYTHONPATH": str(CHECKOUT), "PATH": "/usr/bin:/bin"}
    command = [*prefix, sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said: dict[str, tuple[int, str]] = json.loads(done.stdout.splitlines()[-1])
    return said


@pytest.mark.parametrize("name", ["sample", "index", "shard", "read-only"])
def test_it_is_one_error_without_a_traceback(name: str, found: dict[str, tuple[int, str]]) -> None:
    code, said = found[name]
    assert code == 1
    assert "Traceback" not in said
    assert ("Read-only file system" if name == "read-only" else "No space left on device") in said
    assert "space" in said.partition("fix: ")[2]
