"""`pairloom run` and `dvc repro` on a dataset in a bucket, killed in several stages: the bytes of a run on a disk."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from pairloom.store.folder import MANIFEST
from pipeline.cli import main
from tests.bucket import Server, below, content, serving
from tests.pipeline.far import BUCKET, HERE, emptied, in_bucket, tables, wait_until
from tests.pipeline.test_dvc import DVC_PAGE, Project
from tests.serving import pictures, write_list

pytestmark = [pytest.mark.crash, pytest.mark.long]
ROWS, A_SHARD = 8, 2
SETTINGS: dict[str, dict[str, Any]] = {
    "run": {"cluster": "inline"},
    "sample": {"rows_per_shard": A_SHARD},
    "curate": {"min_words": 1},
    "negatives": {"ceiling": 0.9},
    "shards": {"regions": False, "tags": False, "val_share": 0.3, "shard_bytes": 1 << 17},
}


def put(server: Server, table: str) -> int:
    """How many shards of a table were put so far."""
    asked = list(server.asked)
    return sum(method == "PUT" and f"/{table}/" in path and path.endswith(".parquet") for method, path in asked)


def killed(command: Sequence[str], folder: Path, server: Server, table: str, after: int) -> None:
    """Start a command and kill its processes once a table has so many shards."""
    server.asked.clear()
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": programs, "PYTHONPATH": str(HERE)}
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    wait_until(lambda: put(server, table) >= after, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def without_metrics(files: Mapping[str, bytes]) -> dict[str, bytes]:
    return {name: body for name, body in files.items() if not name.startswith("metrics")}


def test_a_run_that_is_killed_in_four_stages(tmp_path: Path) -> None:
    with emptied(tmp_path) as (server, client), pictures(Path("www"), ROWS) as host:
        write_list(Path("list.csv"), host, range(ROWS + 1))  # one is missing
        settings = SETTINGS | {"download": {"allow_hosts": [host]}}
        Path("settings.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
        line = ["run", "--urls", "list.csv", "--params", "settings.yaml", "--quiet", "--out"]
        for table in ("urls", "download", "negatives", "shards"):
            killed([sys.executable, "-m", "pipeline.cli", *line, BUCKET], tmp_path, server, f"d/{table}", 1)
            assert f"d/{table}/{MANIFEST}" not in content(client, "pairs")
        assert main([*line, BUCKET]) == 0
        assert main([*line, "here"]) == 0
        assert without_metrics(in_bucket(client)) == without_metrics(tables(below(Path("here"))))


def project(folder: Path, host: str, *commands: str) -> Project:
    """A project on the list beside it. Its files are changed by these commands."""
    folder.mkdir()
    one = Project(folder, [])
    write_list(folder / "my.csv", host, range(ROWS))
    one.run("pairloom", "init", ".", "--urls", "my.csv")
    params = yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))
    for section, settings in (SETTINGS | {"download": {"allow_hosts": [host]}}).items():
        params[section] = (params.get(section) or {}) | settings
    (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    for command in commands:
        one.run("sh", "-c", command)
    return one


def test_a_repro_that_is_killed_in_three_stages(tmp_path: Path) -> None:
    in_the_bucket = re.search(r"^sed -i .*$", DVC_PAGE, re.MULTILINE)
    assert in_the_bucket is not None
    with pictures(tmp_path / "www", ROWS) as host, serving("pairs") as (server, client):
        one = project(tmp_path / "bucket", host, in_the_bucket[0])
        for table in ("download", "negatives", "shards"):
            killed(["dvc", "repro", "shards"], one.folder, server, f"data/{table}", 2 if table == "download" else 1)
            assert f"data/{table}/{MANIFEST}" not in content(client, "pairs")
        said = one.run("dvc", "repro", "shards")
        stages = ("download", "negatives", "shards")
        assert [f"Running stage '{stage}'" in said for stage in stages] == [False, False, True]
        other = project(tmp_path / "disk", host)
        other.run("dvc", "repro", "shards")
        found = {key.removeprefix("data/"): body for key, body in content(client, "pairs").items()}
        wanted = {name: body for name, body in below(other.folder / "data").items() if not name.endswith("asked.txt")}
        assert tables(found) == tables(wanted)
        assert "Running stage" not in one.run("dvc", "repro", "shards")
