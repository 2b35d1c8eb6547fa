"""What a run says: events for programs, metrics without times, and what came out at the end."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pytest

from pipeline.cli import main
from pipeline.log import Log
from pipeline.verbs.dataset import closing
from tests.inspection.synthetic import make_dataset


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("speaking") / "data")


def test_a_stage_appends_its_events(data: Path, tmp_path: Path) -> None:
    log, metrics = tmp_path / "logs" / "run.jsonl", tmp_path / "metrics"
    command = ["stage", "tags", "--data", str(data), "--metrics", str(metrics), "--redo", "--cluster", "inline"]
    assert main([*command, "--log-json", str(log)]) == 0
    events = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    assert [event["event"] for event in events] == ["stage-started", "progress", "progress", "stage-done"]
    assert all(datetime.fromisoformat(event["time"]).utcoffset() is not None for event in events)
    assert (events[2]["stage"], events[2]["done"], events[2]["total"]) == ("tags", 17, 17)
    assert (events[3]["rows_in"], events[3]["rows_out"], events[3]["shards_made"]) == (17, 17, 2)
    assert events[3]["seconds"] >= 0
    assert main([*command, "--log-json", str(log)]) == 0  # nothing is due: lines are added, none is lost
    again = log.read_text(encoding="utf-8").splitlines()
    assert len(again) == 6
    assert json.loads(again[5])["shards_made"] == 0


def test_what_dvc_tracks_has_no_time(data: Path, tmp_path: Path) -> None:
    command = ["stage", "tags", "--data", str(data), "--metrics", str(tmp_path), "--redo", "--cluster", "inline"]
    assert main(command) == 0
    first = (tmp_path / "tags.json").read_bytes()
    assert json.loads(first) == {"rows_in": 17, "rows_out": 17, "left_out": 0, "shards": 2}
    facts = json.loads((tmp_path / "facts/tags.json").read_bytes())
    assert facts["shards"] == 2
    assert facts["seconds"] > 0
    assert main(command) == 0  # nothing is due any more
    assert (tmp_path / "tags.json").read_bytes() == first
    again = json.loads((tmp_path / "facts/tags.json").read_bytes())
    assert (again["rows_out"], again["shards_made"]) == (17, 0)


def test_a_run_ends_with_what_came_out_and_what_comes_next(data: Path) -> None:
    lines = closing(data).splitlines()
    assert lines[0].startswith("17 images (train 13, val 4) in 2 shards of ")
    assert lines[1] == f"shards: {data / 'shards'}"
    assert lines[2] == "starter: 6 classes, trained on drawings; for real work add a published detector"
    assert f"pairloom browse {data}" in lines[3]
    assert f"pairloom train --recipe uniter --shards {data / 'shards'}" in lines[4]


def test_a_log_without_a_file_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Log().write("stage-started", stage="tags")
    Log().progress("tags", 1, 1, 1.0)
    assert list(tmp_path.iterdir()) == []
