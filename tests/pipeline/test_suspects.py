"""Rows and shards that kill their process: a few go to quarantine, and where every process dies the run stops."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairloom.errors import MachineError, RunError
from pairloom.store.folder import open_folder, read_shard
from pipeline import executor
from pipeline.config import RunConfig
from pipeline.executor import Options, run_stage
from pipeline.planning import Work, prepare
from pipeline.retry import left_out, remake
from pipeline.stage import load
from pipeline.suspects import Inquiry
from pipeline.task import Places
from tests.pipeline import words
from tests.pipeline.forks import ForkPool
from tests.pipeline.helpers import hashes, write_texts
from tests.pipeline.words import Config

STAGE = "tests.pipeline.words"
INLINE = Options(RunConfig(cluster="inline"), plain=True)


def work_on(texts: list[str], data: Path, config: Config) -> Work:
    """All shards of these texts, four rows each."""
    write_texts(texts, data)
    stage = load(STAGE)
    return prepare(stage, config, Places.of(stage, config, data), redo=False)


def looked_into(work: Work, guilty: int = 0) -> list[tuple[str, dict[str, int]]]:
    """(shard, rows left out by reason) of each, after an inquiry into all of them and so many guilty ones."""
    inquiry = Inquiry(ForkPool(), work.sizes(), lambda task: task, guilty=guilty)
    return sorted((made.table.name, dict(made.table.rejected)) for made in inquiry.made(work.tasks))


@settings(max_examples=4)
@given(deadly=st.lists(st.sets(st.integers(0, 3), max_size=2), min_size=1, max_size=3))
def test_the_rows_that_kill_are_left_out_and_no_others(
    deadly: list[set[int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    data = tmp_path_factory.mktemp("deadly")
    texts = ["die" if row in shard else "a" for shard in deadly for row in range(4)]
    found = looked_into(work_on(texts, data, Config()))
    assert found == [
        (f"{number:05d}", {"worker-died": len(shard)} if shard else {}) for number, shard in enumerate(deadly)
    ]
    files = (data / "quarantine/words").glob("*.parquet")
    left = [key for file in files for key in read_shard(file)["key"].to_pylist()]
    assert sorted(left) == sorted(f"http://host/{row}" for row, text in enumerate(texts) if text == "die")


def test_a_shard_whose_rows_all_kill_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="more than 2 of its 4 rows kill their worker"):
        looked_into(work_on(["die"] * 4, tmp_path, Config()))


def test_workers_that_die_before_any_row_stop_the_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="dies even without a row") as caught:
        looked_into(work_on(["a", "b"], tmp_path, Config(dies_at_setup=True)))
    assert "more memory" in str(caught.value)


def test_more_shards_with_a_deadly_row_than_without_stop_the_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="it is the 9th shard with rows that kill"):
        looked_into(work_on(["die", "a", "b", "c"], tmp_path, Config()), guilty=8)


@pytest.fixture
def forking(monkeypatch: pytest.MonkeyPatch) -> ForkPool:
    """What the executor runs its tasks on in this test."""
    pool = ForkPool()
    monkeypatch.setattr(executor, "open_pool", lambda *_: nullcontext(pool))
    return pool


def test_a_run_with_deadly_rows_in_some_shards_is_finished(tmp_path: Path, forking: ForkPool) -> None:
    """More of them than are looked into at once. The shards behind them are made, too."""
    write_texts(["die", "a", "b", "c", "d", "e", "f", "g"] * 6, tmp_path)
    done = run_stage(STAGE, Config(), tmp_path, Options(plain=True))
    assert (done.counts.rows_out, dict(done.counts.rejected)) == (42, {"worker-died": 6})
    assert open_folder(tmp_path / "words").complete
    assert run_stage(STAGE, Config(), tmp_path, INLINE).made == 0


def test_a_run_whose_every_process_is_killed_stops_after_a_few(tmp_path: Path, forking: ForkPool) -> None:
    write_texts(["die"] * 200, tmp_path)
    with pytest.raises(RunError, match="more than 2 of its 4 rows kill their worker"):
        run_stage(STAGE, Config(), tmp_path, Options(plain=True))
    assert forking.deaths < 20
    assert not list((tmp_path / "quarantine/words").glob("*.parquet"))


@pytest.mark.parametrize(("text", "said"), [("full", "No space left on device"), ("memory", "ran out of memory")])
def test_what_the_machine_lacks_is_no_rows_fault(text: str, said: str, tmp_path: Path) -> None:
    write_texts(["a", text, "b", "c", "d"], tmp_path)
    with pytest.raises(MachineError, match=said) as caught:
        run_stage(STAGE, Config(), tmp_path, INLINE)
    assert "shard 00000" in str(caught.value) or "stage words" in str(caught.value)
    assert not list((tmp_path / "quarantine/words").glob("*.parquet"))


def test_rows_with_an_error_are_tried_again_in_their_shards_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["a", "b", "c", "d", "flaky", "e", "f", "g", "h"]
    for data in (tmp_path / "once", tmp_path / "twice"):
        write_texts(texts, data)
    run_stage(STAGE, Config(), tmp_path / "once", INLINE)
    monkeypatch.setattr(words, "flaky", True)
    data = tmp_path / "twice"
    assert run_stage(STAGE, Config(), data, INLINE).counts.rejected == {"stage-error": 1}
    before = {file.name: file.stat().st_mtime_ns for file in (data / "words").glob("*.parquet")}
    assert left_out(data / "words", {"stage-error", "worker-died"}) == 1
    monkeypatch.setattr(words, "flaky", False)
    places = Places.of(load(STAGE), Config(), data)
    again = remake(STAGE, Config(), places, {"stage-error"}, INLINE)
    assert (again.rows, again.done.made, dict(again.done.counts.rejected)) == (1, 1, {})
    changed = [name for name, time in before.items() if (data / "words" / name).stat().st_mtime_ns != time]
    assert changed == ["00001.parquet"]
    assert hashes(data) == hashes(tmp_path / "once")
    assert remake(STAGE, Config(), places, {"stage-error"}, INLINE).rows == 0
    assert open_folder(data / "words").complete
