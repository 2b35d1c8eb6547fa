"""The loader among processes: ranks over gloo see each row once, a dead worker is an error, memory stays flat."""

from __future__ import annotations

import itertools
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
import torch
import torch.distributed as distributed
from torch.distributed import FileStore  # type: ignore[attr-defined]
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.multiprocessing import spawn  # type: ignore[attr-defined]

from pairloom import Batch
from pairloom.errors import RunError
from pairloom.loader import Loader, Options, workers
from pairloom.loader.reading import DamagedError
from tests.pairloom.loader.loading import all_keys, recipe, tokenizer, with_objective, write_folder
from tests.pairloom.loader.test_damage import damage
from trainer.learner import Learner, shapes_of

IMAGES = 23
HERE = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("shards"))


def count_rows(rank: int, ranks: int, folder: Path, port_file: Path) -> None:
    """One rank: sum over all ranks how often each row was seen in an epoch."""
    store = FileStore(str(port_file), ranks)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=ranks)
    options = Options(end="pad", window=2)
    mine = Loader(folder, recipe(), tokenizer(), seed=3, batch_size=8, rank=rank, world_size=ranks, options=options)
    seen = torch.zeros(IMAGES, 3, dtype=torch.int64)
    for batch in mine:
        real = torch.ones(len(batch), dtype=torch.bool) if batch.real_B is None else batch.real_B
        for image, caption, counts in zip(batch.image_ids, batch.caption_index_B, real, strict=True):
            seen[int.from_bytes(image, "big"), caption] += int(counts)
    distributed.all_reduce(seen)
    wanted = torch.zeros_like(seen)
    for image, caption in all_keys(IMAGES):
        wanted[int.from_bytes(image, "big"), caption] = 1
    distributed.destroy_process_group()
    assert torch.equal(seen, wanted)


@pytest.mark.slow
def test_each_row_is_seen_exactly_once_by_ranks_that_talk_over_gloo(folder: Path, tmp_path: Path) -> None:
    spawn(count_rows, (3, folder, tmp_path / "store"), nprocs=3)


def train_sharded(rank: int, ranks: int, folder: Path, out: Path) -> None:
    """One rank of FSDP: three steps on its part of each batch, then the whole weights, from the first rank."""
    distributed.init_process_group("gloo", store=FileStore(str(out / "store"), ranks), rank=rank, world_size=ranks)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    chosen = with_objective("uniter", "mrfr")  # each rank hides as many regions as its rows happen to have
    mine = Loader(folder, chosen, tokenizer(), seed=3, batch_size=8, rank=rank, world_size=ranks)
    learner = Learner(chosen, shapes_of(chosen, mine.tokenizer, mine.metadata()))
    fully_shard(learner, mesh=init_device_mesh("cpu", (ranks,)))
    optimiser = torch.optim.SGD(learner.parameters(), lr=0.005)
    for batch in itertools.islice(mine, 3):
        optimiser.zero_grad()
        torch.autograd.backward(learner(batch).loss)
        optimiser.step()
    weights = {name: value.full_tensor() for name, value in learner.state_dict().items()}
    if rank == 0:
        torch.save(weights, out / f"{ranks}.pt")
    distributed.destroy_process_group()


@pytest.mark.slow
def test_fsdp_trains_on_the_ranks_batches(folder: Path, tmp_path: Path) -> None:
    spawn(train_sharded, (2, folder, tmp_path), nprocs=2)
    chosen = with_objective("uniter", "mrfr")
    torch.manual_seed(0)
    whole = Loader(folder, chosen, tokenizer(), seed=3, batch_size=8)
    learner = Learner(chosen, shapes_of(chosen, whole.tokenizer, whole.metadata()))
    optimiser = torch.optim.SGD(learner.parameters(), lr=0.005)
    for batch in itertools.islice(whole, 3):
        optimiser.zero_grad()
        torch.autograd.backward(learner(batch).loss)
        optimiser.step()
    sharded = torch.load(tmp_path / "2.pt")
    for name, value in learner.state_dict().items():
        torch.testing.assert_close(sharded[name], value, rtol=1e-4, atol=1e-5)


def with_worker(folder: Path, **options: object) -> Loader[Batch]:
    return Loader(folder, recipe(), tokenizer(), seed=1, batch_size=6, workers=1, options=Options(**options))  # type: ignore[arg-type]


def wait_until_up(mine: Loader[Batch]) -> None:
    while not all(worker.ready for worker in mine.pool().workers):
        mine.pool().listen(10)


@pytest.mark.crash
@pytest.mark.slow
def test_a_killed_worker_is_a_clear_error_within_seconds(folder: Path) -> None:
    mine = with_worker(folder)
    iterator = iter(mine)
    next(iterator)
    wait_until_up(mine)
    worker = mine.pool().workers[0].process
    os.kill(worker.pid, signal.SIGKILL)
    began = time.monotonic()
    with pytest.raises(RunError, match=f"loader worker {worker.pid} was killed by signal 9"):
        for _ in itertools.islice(iterator, 100):
            pass
    assert time.monotonic() - began < 10  # not a timing: a hang would be for ever
    for again in (iterator, iter(mine)):
        with pytest.raises(RunError, match=f"loader worker {worker.pid} was killed by signal 9"):
            next(again)
    mine.close()
    assert len(next(iter(mine))) == 6
    mine.close()


@pytest.mark.slow
def test_an_error_in_a_worker_arrives_with_its_own_traceback(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, (9, 8))
    mine = with_worker(folder)
    wait_until_up(mine)
    damage(folder, "features", tuple(range(9)))
    with pytest.raises(DamagedError, match="is not what was written") as caught:
        list(itertools.islice(mine, 100))
    assert "in read" in str(caught.value.__cause__)
    mine.close()


@pytest.mark.slow
def test_memory_is_flat_over_ten_epochs(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, (60, 60), group_rows=10)
    mine = Loader(folder, recipe("clip"), tokenizer("clip"), seed=3, batch_size=16, options=Options(end="drop"))
    used = []
    for _ in range(10):
        for batch in mine:
            assert batch.pixels_B3SS is not None
        used.append(psutil.Process().memory_info().rss)
    assert used[-1] - used[2] < 16 << 20


@pytest.mark.slow
def test_the_ten_lines_of_the_documentation_train_on_two_ranks(tmp_path: Path) -> None:
    """docs/reference/loader.md shows DDP with torchrun. This runs just that."""
    write_folder(tmp_path / "shards", (12, 12))
    text = (HERE / "docs" / "reference" / "loader.md").read_text(encoding="utf-8")
    script = text.partition("```python\n# train_ddp.py\n")[2].partition("```")[0]
    assert len([line for line in script.splitlines() if line.strip() and "import" not in line]) <= 10
    (tmp_path / "train_ddp.py").write_text(script, encoding="utf-8")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    environment = os.environ | {"PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "train_ddp.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    losses = re.findall(r"loss \d+\.\d+", done.stdout)  # two ranks may write on one line
    assert len(losses) == 2
    assert len(set(losses)) == 1  # both ranks print the mean over all: the same


@pytest.mark.crash
@pytest.mark.slow
def test_a_stopped_worker_is_named_and_the_other_does_not_run_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(workers, "SILENT_S", 0.5)
    folder, plain = write_folder(tmp_path, (40, 40)), Options(ahead=3)
    alone = Loader(folder, recipe(), tokenizer(), seed=1, batch_size=2, options=plain)
    mine = Loader(folder, recipe(), tokenizer(), seed=1, batch_size=2, workers=2, options=plain)
    wanted = [batch.image_ids for batch in itertools.islice(alone, 40)]
    wait_until_up(mine)
    stopped = mine.pool().workers[0].process
    os.kill(stopped.pid, signal.SIGSTOP)
    threading.Timer(4, os.kill, (stopped.pid, signal.SIGCONT)).start()
    found, most = [], 0
    for batch in itertools.islice(mine, 40):
        found.append(batch.image_ids)
        most = max(most, len(mine.pool().due))
    assert found == wanted
    assert most <= 3 * 2
    assert f"worker {stopped.pid} has not answered for" in capsys.readouterr().err
    os.kill(stopped.pid, signal.SIGSTOP)
    mine.close()
    assert not stopped.is_alive()
