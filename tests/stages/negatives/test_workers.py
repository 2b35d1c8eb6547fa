"""However many workers mine a table, and whatever happens to one of them, the bytes are the same."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path

import pytest

from pairloom.store.folder import JOURNAL, open_folder
from pipeline.config import RunConfig
from pipeline.executor import Options, run_stage
from stages.negatives import Config, building
from tests.pipeline.helpers import hashes
from tests.processes import workers_of
from tests.stages.negatives.corpus import curated

HERE = Path(__file__).resolve().parents[3]
SHARDS, FEW = range(60), range(5)
INLINE = Options(RunConfig(cluster="inline"))
LIMITED = Config(top_k=5, max_lists=9)  # for which workers mine twice


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


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Hashes of the table that is mined here, from an index that was made at once."""
    data = tmp_path_factory.mktemp("whole")
    curated(data, FEW)
    run_stage("negatives", LIMITED, data, INLINE)
    return hashes(data / "negatives")


def in_parts(patch: pytest.MonkeyPatch, captions: int = 60) -> None:
    """Have the index made in parts of so many captions."""
    patch.setattr(building.write, "__defaults__", (captions,))


def parts_of(data: Path) -> list[str]:
    """Language/part of an index."""
    (index,) = (data / ".index/negatives").iterdir()
    return sorted(str(folder.parent.relative_to(index)) for folder in index.glob("*/*/captions.arrow"))


@pytest.mark.slow
def test_parts_made_by_one_and_three_workers_give_the_bytes_of_one_made_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: dict[str, str]
) -> None:
    in_parts(monkeypatch)
    for workers in (1, 3):
        data = tmp_path / str(workers)
        curated(data, FEW)
        run_stage("negatives", LIMITED, data, Options(RunConfig(cluster="local", workers=workers)))
        assert hashes(data / "negatives") == whole
        assert parts_of(data) == ["0/0", "0/1", "1/0", "1/1", "1/2", "1/3", "1/4", "1/5"]


@pytest.mark.parametrize("finished", [0, 7])
def test_a_resume_makes_the_missing_parts_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: dict[str, str], finished: int
) -> None:
    build, begun, most = building.build, 0, finished

    @wraps(build)
    def stopping(job: building.Job, folder: Path) -> None:
        nonlocal begun
        begun += 1
        if begun > most:
            (folder / "half").write_text("of a part")
            raise KeyboardInterrupt
        build(job, folder)

    @wraps(building.count_part)
    def known(job: building.Job, folder: Path) -> None:
        raise AssertionError("these terms were counted before")

    in_parts(monkeypatch)
    monkeypatch.setattr(building, "build", stopping)
    curated(tmp_path, FEW)
    with pytest.raises(KeyboardInterrupt):
        run_stage("negatives", LIMITED, tmp_path, INLINE)
    monkeypatch.setattr(building, "count_part", known)
    begun, most = 0, 8
    run_stage("negatives", LIMITED, tmp_path, INLINE)
    assert begun == 8 - finished
    assert hashes(tmp_path / "negatives") == whole
