"""Fine-tuning by a file: a run that was killed gives the weights of one that was not, and so do two ranks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from evaluation import examples, finetuning
from evaluation.examples import Example
from evaluation.gallery import open_gallery
from evaluation.rounds import Place, Rounds
from pairloom.errors import ConfigError
from systems import checkpoints as saved
from tests.evaluation.scenes import write_nlvr2
from trainer import state
from trainer.config import Config

STEPS = finetuning.Steps(steps=5, batch_size=4)
EACH = Config(save_every_s=0.0)  # a state after each step


def tuning_of(checkpoint: Path, shards: Path, folder: Path, **settings: Any) -> tuple[Any, finetuning.Tuning]:
    before, tokenizer = saved.load(checkpoint)
    gallery = open_gallery(shards, "train", before.recipe, tokenizer, beside=("url",))
    asked = examples.of_nlvr2(gallery, write_nlvr2(folder / "train.jsonl", range(8)), "url")
    learner = finetuning.learner_for(before, "nlvr2", STEPS, 0)
    return learner, finetuning.Tuning(gallery, asked, gallery, asked[:4], **settings)


def killed_at(last: int) -> Any:
    def report(step: int, *_: Any) -> None:
        if step == last:
            raise KeyboardInterrupt

    return report


def test_a_killed_run_resumes_to_the_same_weights(
    checkpoints: dict[str, Path], shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, tuning = tuning_of(checkpoints["uniter"], shards, tmp_path)
    wanted = finetuning.tune(whole, tuning, out=tmp_path / "whole", config=EACH)
    first, tuning = tuning_of(checkpoints["uniter"], shards, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        finetuning.tune(first, tuning, killed_at(4), tmp_path / "out", EACH)
    again, tuning = tuning_of(checkpoints["uniter"], shards, tmp_path)
    found = finetuning.tune(again, tuning, out=tmp_path / "out", config=EACH)
    assert "training resumes after step 3" in capsys.readouterr().err
    assert found == wanted
    weights = again.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in whole.state_dict().items())


def test_a_state_of_another_file_is_told_and_not_used(
    checkpoints: dict[str, Path], shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for content in ("one", "other"):
        learner, tuning = tuning_of(checkpoints["uniter"], shards, tmp_path, made_of={"file": content})
        with pytest.raises(KeyboardInterrupt):
            finetuning.tune(learner, tuning, killed_at(3), tmp_path / "out", EACH)
    assert "is of other settings (file): it starts at step 0" in capsys.readouterr().err
    assert [state.step_of(path) for path in state.beside(tmp_path / "out")] == [2, 1]


@given(count=st.integers(1, 20), size=st.integers(1, 6), ranks=st.integers(1, 3), seed=st.integers(0, 9))
def test_ranks_share_each_batch_and_an_epoch_has_each_example_once(
    count: int, size: int, ranks: int, seed: int
) -> None:
    size = min(size * ranks, count)
    asked = [Example((number,), str(number), {}) for number in range(count)]
    nothing: Any = None  # no picture is looked at
    every = [Rounds(nothing, asked, "nlvr2", size, seed, Place(rank, ranks)) for rank in range(ranks)]
    steps = count // size
    for epoch in (0, 1):
        found = [one.places(step) for step in range(epoch * steps, (epoch + 1) * steps) for one in every]
        together = [place for _, places in found for place in places]
        assert {number for number, _ in found} == {epoch}
        assert len(together) == len(set(together)) == steps * size


def test_a_batch_that_ranks_cannot_share_is_refused(
    checkpoints: dict[str, Path], shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner, tuning = tuning_of(checkpoints["uniter"], shards, tmp_path)
    for name, value in {"TORCHELASTIC_RUN_ID": "1", "RANK": "0", "WORLD_SIZE": "3", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="a batch of 4 rows on 3 ranks"):
        finetuning.tune(learner, tuning)


@pytest.mark.long
def test_two_ranks_give_the_weights_of_one_process(checkpoints: dict[str, Path], shards: Path, tmp_path: Path) -> None:
    """From the command line. uniter at size tiny drops nothing out."""
    files = [str(write_nlvr2(tmp_path / "train.jsonl", range(8)))] * 2
    about = ["--task", "nlvr2", "--shards", str(shards), "--file", files[0], "--val-file", files[1]]
    how = ["--val-split", "train", "--batch-size", "4", "--epochs", "1", "--quiet", "--device", "cpu"]
    words = ["finetune", str(checkpoints["uniter"]), *about, *how]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    for name, before in (("one", []), ("two", torchrun)):
        command = [sys.executable, *before, "-m", "pipeline.cli", *words, "--out", str(tmp_path / name)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    for name, value in one.items():
        torch.testing.assert_close(
            two[name], value, atol=1e-4, rtol=1e-3
        )  # Adam raises what rounding leaves of gradients near 0
    figures = [json.loads((tmp_path / name / "metrics.json").read_text(encoding="utf-8")) for name in ("one", "two")]
    assert figures[0]["task"] == pytest.approx(figures[1]["task"])
    assert not list(tmp_path.glob("*.state-*"))
