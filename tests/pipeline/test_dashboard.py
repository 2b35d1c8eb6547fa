"""Dask's dashboard of local processes: its address, its table of workers, and the cure where bokeh is missing."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from pairloom.errors import MissingExtraError
from pipeline import cluster
from pipeline.config import RunConfig
from pipeline.executor import Options, run_stage
from pipeline.extras import missing_extra
from pipeline.pool import Pool
from tests.pipeline.helpers import write_texts
from tests.pipeline.words import Config

OPENED = cluster.open_pool


def test_the_address_that_is_printed_shows_rows_kept_and_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run as it is, looked at from within before its processes end."""
    from dask.utils import key_split
    from distributed.dashboard.components.scheduler import WorkerTable

    write_texts(["one", "reject", "three"], tmp_path)
    run = RunConfig(cluster="local", workers=1, dashboard=True)
    with OPENED(run, 1, "words", lambda: pytest.fail("no cluster of others")) as pool:
        address = re.search(r"words: dashboard (http://127\.0\.0\.1:\d+)/status", capsys.readouterr().err)
        assert address is not None
        monkeypatch.setattr("pipeline.executor.open_pool", lambda *_: Kept(pool))
        run_stage("tests.pipeline.words", Config(), tmp_path, Options(run, plain=True))
        for page in ("status", "workers"):
            with urlopen(f"{address[1]}/{page}") as answer:
                assert b"bokeh" in answer.read().lower()
        scheduler = pool.client.cluster.scheduler  # type: ignore[attr-defined]
        wait_for_heartbeat(scheduler)
        table: Any = WorkerTable(scheduler)
        table.update()
        shown = {name: table.source.data[name][1:] for name in table.extra_names}  # the first is the total
        assert shown["pairloom stage"] == ["words"]
        assert shown["rows kept"] == [2]
        assert shown["rows left out"] == [1]
    assert key_split("words-00000-0123456789abcdef0123456789abcdef") == "words"  # as the dashboard groups tasks


class Kept:
    """A pool that stays open at the end of the block."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool

    def __enter__(self) -> Pool:
        return self.pool

    def __exit__(self, *_: object) -> None:
        """Somebody else closes it."""


def wait_for_heartbeat(scheduler: object) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        (worker,) = scheduler.workers.values()  # type: ignore[attr-defined]
        if worker.metrics.get("rows kept"):
            return
        time.sleep(0.1)
    raise AssertionError("the worker's figures did not come")


def test_without_bokeh_the_cure_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bokeh", None)
    run = RunConfig(cluster="local", workers=1, dashboard=True)
    with (
        pytest.raises(ModuleNotFoundError) as raised,
        OPENED(run, 1, "words", lambda: pytest.fail("no cluster of others")),
    ):
        pass
    error = missing_extra(raised.value, "run")
    assert isinstance(error, MissingExtraError)
    assert "pairloom[cluster]" in str(error)
