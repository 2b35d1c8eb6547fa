"""What a long piece of work says while it goes, in plain lines."""

from __future__ import annotations

import pytest

from pipeline import progress
from pipeline.progress import TrainingProgress


def test_training_says_a_moving_mean_of_each_loss(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.0)
    steps = [("mlm", 4.0), ("itm", 0.7), ("mlm", 2.0)]
    with TrainingProgress("uniter", plain=True) as shown:
        for number, (objective, loss) in enumerate(steps, start=1):
            shown(number, len(steps), objective, loss, 0.25)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("train uniter: 1/3 steps")
    assert lines[0].endswith("loss mlm 4.000, waiting for data 25%")
    assert lines[1].endswith("loss mlm 4.000, itm 0.700, waiting for data 25%")
    # by hand: 4 + (2 − 4)/20
    assert lines[2].endswith("loss mlm 3.900, itm 0.700, waiting for data 25%")
