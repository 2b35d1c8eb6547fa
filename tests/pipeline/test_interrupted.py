"""Runs that are killed, interrupted or lose a worker: what is left is whole, and going on gives the same bytes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from pairloom.errors import StoreError
from pairloom.store.folder import JOURNAL, open_folder
from pipeline.config import RunConfig
from pipeline.executor import Options, run_stage
from pipeline.planning import open_finished
from tests.pipeline.helpers import hashes, write_texts
from tests.pipeline.words import Config
from tests.processes import workers_of

TEXTS = [f"text {row}" for row in range(48)]
WAIT_S = 0.05
HERE = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    data = tmp_path_factory.mktemp("undisturbed")
    write_texts(TEXTS, data)
    run_stage("tests.pipeline.words", Config(wait_s=WAIT_S), data, Options(RunConfig(cluster="inline")))
    return hashes(data)


def start(data: Path) -> subprocess.Popen[bytes]:
    """The stage in a process group of its own, on two workers."""
    write_texts(TEXTS, data)
    params = data.parent / "params.yaml"
    params.write_text(yaml.safe_dump({"words": {"wait_s": WAIT_S}}))
    return subprocess.Popen(command(data), cwd=HERE, start_new_session=True, stderr=subprocess.DEVNULL)


def command(data: Path) -> list[str]:
    options = [
        "--data",
        str(data),
        "--params",
        str(data.parent / "params.yaml"),
        "--metrics",
        str(data.parent / "metrics"),
    ]
    cluster = ["--cluster", "local", "--workers", "2"]
    return [sys.executable, "-m", "pipeline.cli", "stage", "tests.pipeline.words", *options, *cluster]


def wait_for_shards(data: Path, count: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if (data / f"words/{JOURNAL}").exists() and len(open_folder(data / "words").shards) >= count:
            return
        time.sleep(0.01)
    raise AssertionError("the stage never got going")


@pytest.mark.crash
def test_kill_9_of_the_whole_group_then_again_gives_the_same_bytes(tmp_path: Path, undisturbed: dict[str, str]) -> None:
    data = tmp_path / "data"
    process = start(data)
    wait_for_shards(data, 2)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(30)
    finished = open_folder(data / "words")
    assert not finished.complete
    assert 2 <= len(finished.shards) < 12
    for entry in finished.shards:
        assert finished.read(entry.name).num_rows == entry.rows
    with pytest.raises(StoreError, match="unfinished"):
        open_finished(data / "words")
    assert subprocess.run(command(data), cwd=HERE, capture_output=True, check=False).returncode == 0
    assert hashes(data) == undisturbed


@pytest.mark.crash
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_says_so_and_goes_on_later(
    tmp_path: Path, undisturbed: dict[str, str], number: signal.Signals, code: int
) -> None:
    data = tmp_path / "data"
    process = start(data)
    wait_for_shards(data, 1)
    os.killpg(process.pid, number)
    assert process.wait(60) == code
    assert not open_folder(data / "words").complete
    assert subprocess.run(command(data), cwd=HERE, capture_output=True, check=False).returncode == 0
    assert hashes(data) == undisturbed


@pytest.mark.crash
def test_a_killed_worker_costs_nothing_but_time(tmp_path: Path, undisturbed: dict[str, str]) -> None:
    data = tmp_path / "data"
    process = start(data)
    wait_for_shards(data, 1)
    workers_of(process.pid)[0].kill()
    assert process.wait(120) == 0
    assert hashes(data) == undisturbed


def test_json_is_the_only_thing_on_standard_output(tmp_path: Path) -> None:
    data = tmp_path / "data"
    start(data).wait(120)
    done = subprocess.run([*command(data), "--json"], cwd=HERE, capture_output=True, check=True)
    result = json.loads(done.stdout)
    assert (result["rows_in"], result["rows_out"], result["shards_made"]) == (48, 48, 0)


ENTRY = "import sys; from pipeline.entry import main; sys.exit(main())"


@pytest.mark.crash
@pytest.mark.parametrize("after_s", [0.3, 1.0, 1.4, 1.8, 2.2])
def test_ctrl_c_while_workers_start_is_one_line(tmp_path: Path, after_s: float) -> None:
    """Whatever it meets: imports, the cluster that is being started, or work."""
    write_texts(TEXTS, tmp_path / "data")
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"words": {"wait_s": 1.0}}), encoding="utf-8")
    arguments = [sys.executable, "-c", ENTRY, *command(tmp_path / "data")[3:]]
    process = subprocess.Popen(arguments, cwd=HERE, start_new_session=True, stderr=subprocess.PIPE, text=True)
    time.sleep(after_s)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    # On a busy machine 0.3 s may be before Python has a handler of its own: then the kernel ends it.
    assert process.returncode == 130 or (after_s == 0.3 and process.returncode == -signal.SIGINT)
    assert len([line for line in said.splitlines() if line]) <= 1, said
