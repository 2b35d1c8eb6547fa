"""What is said while nothing is finished, and when a state that nobody ends becomes an error. No cluster is needed."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest

from pairloom.errors import RunError
from pipeline.crew import Crew, Worker
from pipeline.stalls import InWork, Patience, Watch

HOUR = 3600.0
WORKER = Worker("tcp://a:1", "/tmp/a", "0", threads=1, gpus=0.0, status="running", executing=0, memory_limit=0)


def crew(*workers: Worker, fit: bool = True, **facts: Any) -> Crew:
    """As it is after these workers have answered, or have not."""
    keys = {worker.key for worker in workers}
    asked = {} if fit else dict.fromkeys(keys)
    present = {worker.key: worker for worker in workers}
    return Crew(None, present=present, fit=keys if fit else set(), asked=asked, most=len(keys), **facts)


def line(now: Crew, capsys: pytest.CaptureFixture[str], work: int = 0, waiting: int = 7) -> str:
    """What is said after a long silence."""
    watch = Watch("tags", "tcp://s:1", Patience(line_s=0.0))
    watch.look(now, [InWork(f"tags-{n:05d}", WORKER, time.monotonic() - HOUR + n) for n in range(work)], waiting)
    said = capsys.readouterr().err.strip()
    assert said.startswith("tags: no shard finished for 0 s: ")
    return said.partition("0 s: ")[2]


def test_each_state_has_a_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    other, paused = replace(WORKER, address="tcp://b:1"), replace(WORKER, status="paused", memory_limit=1 << 30)
    assert line(crew(), capsys) == "no workers yet; start some with `dask worker tcp://s:1 --nthreads 1`"
    assert line(crew(paused), capsys) == "every worker is paused: memory is near the limit of 1 GiB on tcp://a:1"
    asked = "no worker has answered the greeting yet (tcp://a:1); are they busy with other work?"
    assert line(crew(WORKER, fit=False), capsys) == asked
    without_gpu = "none of 1 workers has a GPU any more; start one with --resources GPU=1"
    assert line(crew(WORKER, wants_gpu=True, on_gpu=True), capsys) == without_gpu
    assert line(crew(WORKER, other), capsys) == "7 shards wait for one of 2 workers"
    longest = "2 are with 2 workers, the longest tags-00000 for 3600 s on tcp://a:1; 7 wait"
    assert line(crew(WORKER, other), capsys, work=2) == longest
    assert line(crew(WORKER), capsys, work=1, waiting=0).endswith("3600 s on tcp://a:1")


def test_a_line_about_work_comes_ever_more_rarely_and_progress_starts_anew(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    watch, said = Watch("tags", "tcp://s:1", Patience(line_s=30.0)), list[float]()
    watch.progress()

    def until(end: float) -> list[float]:
        while now[0] < end:
            now[0] += 1
            watch.look(crew(WORKER), [InWork("tags-00000", WORKER, 0.0)], 0)
            if capsys.readouterr().err:
                said.append(now[0])
        return said

    assert until(300) == [30, 90, 210]
    watch.progress()
    assert until(400) == [30, 90, 210, 330, 390]


WHY = "pyarrow: 21.0.0 there, 26.0.0 here (on node7)"


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (crew(WORKER, fit=False), ""),
        (replace(crew(WORKER, fit=False), asked={}, refused={WORKER.key: WHY}), "none of the 1 workers can be used"),
        (replace(crew(), died_greeted=4), "4 workers died while they loaded the stage"),
        (replace(crew(), most=1), "all workers that could be used have gone"),
        (crew(replace(WORKER, status="paused")), "every worker is paused, and none works"),
        (crew(replace(WORKER, status="paused", executing=1)), ""),
        (crew(WORKER, wants_gpu=True, on_gpu=True), "all workers that could be used have gone"),
    ],
    ids=["asked", "refused", "died", "gone", "paused", "paused-at-work", "without-gpu"],
)
def test_states_that_no_waiting_ends_are_errors_in_time(
    state: Crew, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    watch = Watch("tags", "tcp://s:1", Patience(refused_s=15, gone_s=15, paused_s=15))
    for now[0], there in ((1.0, state), (12.0, crew(WORKER)), (13.0, state), (27.0, state)):
        watch.look(there, [], 7)
    now[0] = 29.0
    with pytest.raises(RunError, match=said) if said else nullcontext():
        watch.look(state, [], 7)
