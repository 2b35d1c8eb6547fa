"""A disk that is full or read-only: every command says so in one error, on a small disk of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.pipeline.clusters import CHECKOUT

# A disk of 3 MB, on which the list fits and what is asked for does not.
SCRIPT = """
mount -t tmpfs -o size=3m none "$0" && cd "$0" && exec "$@"
"""
PROGRAM = """
import subprocess
import sys
from pathlib import Path
from pipeline.cli import main
from tests.pipeline.helpers import write_texts

what = sys.argv[1]
if what == "read-only":
    subprocess.run(["mount", "-o", "remount,ro", str(Path.cwd())], check=True)
    sys.exit(main(["stage", "sample", "--data", "data", "--set", "sample.urls=/dev/null"]))
if what == "sample":
    Path("list.csv").write_text("url,caption\\n" + "".join(f"http://h/{n},{n * 7919 ** 5}\\n" for n in range(60_000)))
    sys.exit(main(["stage", "sample", "--set", "sample.urls=list.csv", "--data", "data"]))
write_texts([str(n * 7919 ** 9) for n in range(40)], Path("data"))
Path("filler").write_bytes(b"x" * (2 << 20))
sys.exit(main(["stage", "tests.pipeline.hoard", "--data", "data", "--metrics", "metrics", "--set", "run.cluster=inline",
               "--set", f"hoard.where={what}"]))
"""


def on_a_small_disk(what: str, folder: Path) -> subprocess.CompletedProcess[str]:
    prefix = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", SCRIPT, str(folder))
    command = [*prefix, sys.executable, "-c", PROGRAM, what]
    return subprocess.run(
        command, env={"PYTHONPATH": str(CHECKOUT), "PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module", autouse=True)
def _mounts(tmp_path_factory: pytest.TempPathFactory) -> None:
    command = ("unshare", "--user", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "none")
    if subprocess.run([*command, str(tmp_path_factory.mktemp("try"))], capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a disk")


@pytest.mark.parametrize("what", ["sample", "index", "write", "read-only"])
def test_it_is_one_error_without_a_traceback(what: str, tmp_path: Path) -> None:
    done = on_a_small_disk(what, tmp_path)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert ("Read-only file system" if what == "read-only" else "No space left on device") in done.stderr
    assert "space" in done.stderr.partition("fix: ")[2]
