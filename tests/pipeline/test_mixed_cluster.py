"""A cluster of workers that differ: those that would write other bytes, or write them elsewhere, are not used."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pairloom.errors import RunError
from pipeline.config import RunConfig
from pipeline.executor import Options, run_stage
from tests.pipeline.clusters import CHECKOUT, Cluster, apart, other_checkout, other_package, without
from tests.pipeline.helpers import hashes, write_texts
from tests.pipeline.words import Config

STAGE = "tests.pipeline.words"
TEXTS = [f"text {row}" for row in range(24)]
INLINE = Options(RunConfig(cluster="inline"), plain=True)
FILE = "file.txt"


@dataclass(frozen=True)
class Mixed:
    """The cluster, the process of its one good worker, and the folder that it shares with this process."""

    cluster: Cluster
    good: int
    shared: Path
    reasons: tuple[str, ...]

    @property
    def config(self) -> Config:
        """With a file that one worker has otherwise."""
        return Config(file=str(self.shared / FILE))

    @property
    def options(self) -> Options:
        return Options(RunConfig(cluster=self.cluster.address, patience_s=2), plain=True)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mixed]:
    folder = tmp_path_factory.mktemp("mixed")
    shared = folder / "shared"
    shared.mkdir()
    for file in (shared / FILE, folder / "other.txt"):
        file.write_text(file.name, encoding="utf-8")
    reasons = ["pairloom is not installed there", "No module named 'tests", "pairloom's code: ", "pyarrow: 1.0 there"]
    bare = without(folder / "none", ["pipeline", "stages", "pairloom", "schemas"])
    with Cluster(folder, paths=[bare]) as cluster, pytest.MonkeyPatch.context() as patch:  # it needs no pairloom
        good = cluster.worker()
        cluster.worker(paths=[bare, CHECKOUT])
        cluster.worker(paths=[without(folder / "stage", ["tests"]), CHECKOUT])  # where the stage lies
        (folder / "checkout").mkdir()
        cluster.worker(paths=[other_checkout(folder / "checkout"), CHECKOUT])
        cluster.worker(paths=[other_package(folder / "old", "pyarrow", "1.0"), CHECKOUT])
        places = {"not see what lies in": apart("disk", shared), "does not arrive here": apart("layer", shared)}
        places["detector and other files: "] = apart("file", shared / FILE, folder / "other.txt")
        for reason, prefix in places.items():
            if prefix:
                cluster.worker(prefix=prefix)
                reasons.append(reason)
        _wait_for(cluster, len(reasons) + 1)
        patch.setattr("pipeline.greeting.REPLY_S", 0.5)
        yield Mixed(cluster, good.pid, shared, tuple(reasons))


def _wait_for(cluster: Cluster, workers: int) -> None:
    from distributed import Client

    with Client(cluster.address) as client:
        client.wait_for_workers(workers, timeout=60)


def test_only_the_worker_that_is_alike_is_used_and_the_others_are_named(
    mixed: Mixed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for data, options in ((tmp_path, INLINE), (mixed.shared / "data", mixed.options)):
        write_texts(TEXTS, data)
        run_stage(STAGE, mixed.config, data, options)
    assert hashes(mixed.shared / "data") == hashes(tmp_path)
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("not used: ")]
    for reason in mixed.reasons:
        assert len([line for line in said if reason in line]) == 1, said
    assert len(said) == len(mixed.reasons)


def test_relative_paths_are_meant_from_where_the_run_was_started(
    mixed: Mixed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Also one of the settings. Workers were started in other folders."""
    monkeypatch.chdir(mixed.shared)
    for data, options in ((tmp_path, INLINE), (Path("relative"), mixed.options)):
        write_texts(TEXTS, data)
        run_stage(STAGE, Config(file=FILE), data, options)
    assert hashes(mixed.shared / "relative") == hashes(tmp_path)


def test_a_run_without_a_worker_to_use_stops_and_records_nothing(mixed: Mixed) -> None:
    data = mixed.shared / "none"
    write_texts(TEXTS, data)
    os.killpg(mixed.good, signal.SIGKILL)
    with pytest.raises(RunError, match=r"none of the \d workers can be used") as caught:
        run_stage(STAGE, mixed.config, data, mixed.options)
    assert all(reason in str(caught.value) for reason in mixed.reasons)
    assert not list((data / "words").glob("*.parquet"))
