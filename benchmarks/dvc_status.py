"""`dvc status` of a project whose tables have many shards: seconds, those of CPU, and those of waiting for a core.

python -m benchmarks.dvc_status [--shards 10 25000] [--times 5]

Six tables have so many shards each, names of one small file, and `dvc commit` has made dvc.lock. The peer is the
project with few shards: what it takes is DVC's own start, its imports, and reading dvc.yaml and dvc.lock. Linux only.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from benchmarks.scale_tables import linked, pairs

TABLES = ("download", "curate", "regions", "tags", "negatives", "shards")
LOOK_S = 0.01  # between two looks at what the system says of a process


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, nargs="+", default=[10, 25_000], help="of each of six tables")
    parser.add_argument("--times", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        for shards in arguments.shards:
            folder = project(Path(name) / str(shards), shards)
            found = [status(folder) for _ in range(arguments.times)]
            print(f"{shards:>7,} shards a table: the least of {len(found)}", flush=True)
            for place, what in enumerate(("seconds", "of CPU", "waiting for a core")):
                print(f"  {min(each[place] for each in found):6.2f} {what}", flush=True)


def project(folder: Path, shards: int) -> Path:
    """As it is after `dvc repro`, for DVC."""
    folder.mkdir()
    (folder / "list.csv").write_text("url,caption\nhttp://host/1.jpg,a dog\n", encoding="utf-8")
    run(folder, "git", "init", "--quiet")
    run(folder, "pairloom", "init", ".", "--urls", "list.csv")
    for table in TABLES:
        linked(folder / "data" / table, pairs(), shards)
    stages = yaml.safe_load((folder / "dvc.yaml").read_text(encoding="utf-8"))["stages"].values()
    for stage in stages:
        for each in (*stage.get("outs", ()), *stage.get("metrics", ()), *stage.get("plots", ())):
            fill(folder / (each if isinstance(each, str) else next(iter(each))))
    run(folder, "dvc", "commit", "--force", "--quiet")
    return folder


def fill(out: Path) -> None:
    """Give an output that is missing some content."""
    if not out.exists():
        file = out if out.suffix else out / "content.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("{}", encoding="utf-8")


def run(folder: Path, *command: str) -> None:
    subprocess.run(command, cwd=folder, env=os.environ | {"PATH": _path()}, check=True, stdout=subprocess.DEVNULL)


def _path() -> str:
    """With the programs of this environment first."""
    return f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


def status(folder: Path) -> tuple[float, float, float]:
    """Seconds, of CPU, and waiting for a core, by what the system says of its threads until it ends."""
    start, seen = time.perf_counter(), dict[Path, list[str]]()
    environment = os.environ | {"PATH": _path()}
    with subprocess.Popen(["dvc", "status"], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            for file in Path(f"/proc/{process.pid}/task").glob("*/schedstat"):
                try:
                    seen[file] = file.read_text(encoding="utf-8").split()
                except (FileNotFoundError, ProcessLookupError):  # the thread ended
                    continue
            time.sleep(LOOK_S)
        seconds, said = time.perf_counter() - start, process.stdout.read() if process.stdout else ""
    assert "up to date" in said, said
    cpu, waited = (sum(int(each[place]) for each in seen.values()) / 1e9 for place in (0, 1))
    return seconds, cpu, waited


if __name__ == "__main__":
    main()
