"""The executor: conservation of rows, due shards, refusal of mixtures, poison rows, equal bytes however it runs."""

from __future__ import annotations

import dataclasses
import json
import pickle
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairloom.errors import ConfigError, RunError, StoreError
from pairloom.store.folder import MANIFEST, Header, open_folder
from pairloom.store.writing import only_writer
from pipeline import task as task_module
from pipeline.config import RunConfig
from pipeline.executor import Options, run_stage
from pipeline.planning import prepare
from pipeline.stage import load, names
from pipeline.suspects import TooManyDieError, find_killers
from pipeline.task import Places, Task
from tests.pipeline.helpers import cluster_of, hashes, write_texts
from tests.pipeline.words import Config

STAGE = "tests.pipeline.words"
INLINE = Options(RunConfig(cluster="inline"), plain=True)
LOCAL = Options(RunConfig(cluster="local", workers=2), plain=True)
HEADER = Header("words", 1, "words", 1, {}, {}, "")
TEXTS = ["a", "bb", "reject", "cccc", "dd", "raise", "e", "f", "gg", "h"]


def test_every_row_is_kept_or_in_quarantine_with_its_reason(tmp_path: Path) -> None:
    write_texts(TEXTS, tmp_path)
    done = run_stage(STAGE, Config(), tmp_path, INLINE)
    assert (done.counts.rows_in, done.counts.rows_out) == (10, 8)
    assert done.counts.rejected == {"no-caption": 1, "stage-error": 1}
    rejects = [row for _, table in open_folder(tmp_path / "quarantine/words").tables() for row in table.to_pylist()]
    assert {(row["key"], row["reason"]) for row in rejects} == {
        ("http://host/2", "no-caption"),
        ("http://host/5", "stage-error"),
    }
    assert "cannot take raise" in next(row["detail"] for row in rejects if row["reason"] == "stage-error")


def test_a_stage_gets_the_columns_that_it_names_and_no_others(tmp_path: Path) -> None:
    write_texts(["a", "raise", "bb", "ccc"], tmp_path)
    run_stage(STAGE, Config(), tmp_path, INLINE)
    assert "licence" in open_folder(tmp_path / "urls").read("00000").column_names
    (reject,) = open_folder(tmp_path / "quarantine/words").read("00000").to_pylist()
    assert set(json.loads(reject["row"])) == {"url", "captions"}


def test_the_stages_metadata_and_the_provenance_are_in_the_file(tmp_path: Path) -> None:
    write_texts(["a"], tmp_path)
    run_stage(STAGE, Config(times=3), tmp_path, INLINE)
    metadata = open_folder(tmp_path / "words").metadata("00000")
    assert metadata["unit"] == "letters"
    assert '"times": 3' in metadata["pairloom"]


def test_local_workers_write_the_same_bytes_as_one_process(tmp_path: Path) -> None:
    for name, options in (("one", INLINE), ("two", LOCAL)):
        write_texts(TEXTS, tmp_path / name)
        run_stage(STAGE, Config(), tmp_path / name, options)
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")


def test_a_cluster_by_address_writes_the_same_bytes_too(tmp_path: Path) -> None:
    with cluster_of(3) as cluster:
        for name, run in (("one", RunConfig(cluster="inline")), ("far", RunConfig(cluster=cluster.scheduler_address))):
            write_texts(TEXTS, tmp_path / name)
            run_stage(STAGE, Config(), tmp_path / name, Options(run, plain=True))
    assert hashes(tmp_path / "one") == hashes(tmp_path / "far")


@pytest.mark.parametrize("name", [STAGE, *names()])
def test_a_task_takes_its_stage_along_to_a_worker(name: str, tmp_path: Path) -> None:
    stage = load(name)
    task = Task(Places({}, tmp_path, tmp_path, tmp_path), stage, None, HEADER, tmp_path, "00000", "")
    sent = pickle.dumps(task)
    assert pickle.loads(sent) == task
    assert len(sent) < 20_000


def test_two_runs_at_once_on_one_table_are_refused(tmp_path: Path) -> None:
    write_texts(TEXTS, tmp_path)
    with only_writer(tmp_path, "words"), pytest.raises(StoreError, match="another process"):
        run_stage(STAGE, Config(), tmp_path, INLINE)


def test_a_task_of_a_run_that_was_stopped_writes_nothing_into_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker of a cluster goes on with what it has begun."""
    monkeypatch.setattr(task_module, "PAUSE_S", 0.0)
    write_texts(["a"], tmp_path)
    stage, places = load(STAGE), Places.of(load(STAGE), Config(), tmp_path)
    with only_writer(tmp_path, "words"):
        (late,) = prepare(stage, Config(times=1), places, redo=False).tasks
        task_module.run_task(late)
    run_stage(STAGE, Config(times=2), tmp_path, dataclasses.replace(INLINE, redo=True))
    before = hashes(tmp_path)
    with only_writer(tmp_path, "words"), pytest.raises(RunError, match="its run has ended"):
        task_module.run_task(late)
    with pytest.raises(RunError, match="its run has ended"):
        task_module.run_task(late)
    assert hashes(tmp_path) == before


def test_a_second_run_makes_nothing_and_touches_nothing(tmp_path: Path) -> None:
    write_texts(TEXTS, tmp_path)
    run_stage(STAGE, Config(), tmp_path, INLINE)
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "words").iterdir()}
    assert run_stage(STAGE, Config(), tmp_path, INLINE).made == 0
    assert before == {file: file.stat().st_mtime_ns for file in (tmp_path / "words").iterdir()}


def test_appended_rows_cost_only_their_own_shards(tmp_path: Path) -> None:
    write_texts(TEXTS, tmp_path)
    run_stage(STAGE, Config(), tmp_path, INLINE)
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "words").glob("*.parquet")}
    write_texts([*TEXTS, "new", "newer"], tmp_path)
    done = run_stage(STAGE, Config(), tmp_path, INLINE)
    assert (done.made, done.shards, done.counts.rows_in) == (1, 4, 12)
    assert all(file.stat().st_mtime_ns == time for file, time in before.items())


def test_a_changed_setting_is_refused_with_a_difference_and_redone_on_request(tmp_path: Path) -> None:
    write_texts(TEXTS, tmp_path)
    run_stage(STAGE, Config(times=1), tmp_path, INLINE)
    with pytest.raises(StoreError, match=r"words\.times: 1 → 2"):
        run_stage(STAGE, Config(times=2), tmp_path, INLINE)
    assert run_stage(STAGE, Config(times=2), tmp_path, dataclasses.replace(INLINE, redo=True)).made == 3


def test_a_deleted_shard_is_made_again_with_the_same_bytes(tmp_path: Path) -> None:
    write_texts(TEXTS, tmp_path)
    run_stage(STAGE, Config(), tmp_path, INLINE)
    before = hashes(tmp_path / "words")
    (tmp_path / "words/00001.parquet").unlink()
    assert run_stage(STAGE, Config(), tmp_path, INLINE).made == 1
    assert hashes(tmp_path / "words") == before


@pytest.mark.crash
def test_a_row_that_kills_its_worker_is_found_and_quarantined(tmp_path: Path) -> None:
    write_texts(["a", "b", "c", "die", "e", "f", "g"], tmp_path)
    done = run_stage(STAGE, Config(), tmp_path, LOCAL)
    assert done.counts.rejected == {"worker-died": 1}
    assert done.counts.rows_out == 6
    (reject,) = open_folder(tmp_path / "quarantine/words").read("00000").to_pylist()
    assert (reject["key"], reject["reason"]) == ("http://host/3", "worker-died")


@given(killers=st.sets(st.integers(0, 40)), rows=st.integers(0, 41))
def test_halving_finds_exactly_the_rows_that_kill(killers: set[int], rows: int) -> None:
    here = {row for row in killers if row < rows}

    def survive(spans: Sequence[tuple[int, int]]) -> list[bool]:
        return [not any(start <= row < stop for row in here) for start, stop in spans]

    assert find_killers(survive, rows, most=41) == sorted(here)
    if len(here) > 3:
        with pytest.raises(TooManyDieError):
            find_killers(survive, rows, most=3)


@settings(max_examples=25, deadline=None)
@given(texts=st.lists(st.sampled_from(["a", "bb", "reject", "raise"]), min_size=1, max_size=12))
def test_no_row_is_lost_or_invented(texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    data = tmp_path_factory.mktemp("data")
    write_texts(texts, data)
    shards = [texts[start : start + 4] for start in range(0, len(texts), 4)]
    if any(shard.count("raise") > max(1, len(shard) // 2) for shard in shards):
        with pytest.raises(RunError, match="most rows"):
            run_stage(STAGE, Config(), data, INLINE)
        return
    run_stage(STAGE, Config(), data, INLINE)
    kept = [row["url"] for _, table in open_folder(data / "words").tables() for row in table.to_pylist()]
    left = [row["key"] for _, table in open_folder(data / "quarantine/words").tables() for row in table.to_pylist()]
    assert sorted(kept + left) == sorted(f"http://host/{row}" for row in range(len(texts)))


def test_a_stage_that_loses_a_row_is_stopped(tmp_path: Path) -> None:
    write_texts(["a", "lose"], tmp_path)
    with pytest.raises(RunError, match="lost 1 of 2"):
        run_stage(STAGE, Config(), tmp_path, INLINE)


@pytest.mark.parametrize("options", [INLINE, LOCAL])
def test_an_error_that_the_user_can_cure_stops_the_run_as_it_is(tmp_path: Path, options: Options) -> None:
    write_texts(["a", "cure"], tmp_path)
    with pytest.raises(ConfigError, match="mend it"):
        run_stage(STAGE, Config(), tmp_path, options)


def test_an_unfinished_input_is_refused(tmp_path: Path) -> None:
    write_texts(TEXTS, tmp_path)
    manifest = tmp_path / f"urls/{MANIFEST}"
    manifest.rename(tmp_path / "urls/gone")
    with pytest.raises(StoreError, match="there is no table urls yet"):
        run_stage(STAGE, Config(), tmp_path, INLINE)


def test_a_missing_input_names_the_stage_to_run(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="make it first: `pairloom stage sample --data "):
        run_stage(STAGE, Config(), tmp_path, INLINE)
