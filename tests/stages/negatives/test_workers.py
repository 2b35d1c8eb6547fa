"""However many workers mine a table, and whatever happens to one of them, the bytes are the same."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pairloom.store.folder import JOURNAL, open_folder
from pipeline.config import RunConfig
from pipeline.executor import Options, run_stage
from stages.negatives import Config
from tests.pipeline.helpers import hashes
from tests.processes import workers_of
from tests.stages.negatives.corpus import curated

HERE = Path(__file__).resolve().parents[3]
SHARDS = range(60)


def start(data: Path) -> subprocess.Popen[bytes]:
    """The stage on two workers."""
    where = ["--data", str(data), "--params", str(data / "params.yaml"), "--metrics", str(data / "metrics")]
    (data / "params.yaml").write_text("negatives: {top_k: 5, val_share: 0.0}\n")
    command = [sys.executable, "-m", "pipeline.cli", "stage", "negatives", "--cluster", "local", "--workers", "2"]
    return subprocess.Popen([*command, *where], cwd=HERE, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def wait_until(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not ready():
        assert time.monotonic() < deadline, "the stage never got going"
        time.sleep(0.02)


def finished(table: Path) -> int:
    """Shards that the journal of an unfinished table has."""
    return len(open_folder(table).shards) if (table / JOURNAL).exists() else 0


@pytest.mark.crash
@pytest.mark.slow
@pytest.mark.long
def test_a_worker_killed_while_it_mines_costs_nothing_but_time(tmp_path: Path) -> None:
    disturbed, undisturbed = tmp_path / "disturbed", tmp_path / "undisturbed"
    curated(disturbed, SHARDS)
    process = start(disturbed)
    wait_until(lambda: len(workers_of(process.pid)) == 2)
    victim = workers_of(process.pid)[0]  # looked for before: mining takes no longer than looking
    wait_until(lambda: finished(disturbed / "negatives") >= 2)
    victim.kill()
    assert not open_folder(disturbed / "negatives").complete
    assert process.wait(120) == 0
    curated(undisturbed, SHARDS)
    run_stage("negatives", Config(top_k=5), undisturbed, Options(RunConfig(cluster="inline")))
    assert hashes(disturbed / "negatives") == hashes(undisturbed / "negatives")


@pytest.mark.slow
def test_one_two_and_four_workers_write_the_same_bytes(tmp_path: Path) -> None:
    written = []
    for workers in (1, 2, 4):
        data = tmp_path / str(workers)
        curated(data, range(5))
        config = Config(top_k=5, max_lists=9)  # which has workers mine twice
        run_stage("negatives", config, data, Options(RunConfig(cluster="local", workers=workers)))
        written.append(hashes(data / "negatives"))
    assert written[0] == written[1] == written[2]
