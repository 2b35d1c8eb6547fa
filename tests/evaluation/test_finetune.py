"""Fine-tuning from the command line: a task is learned on scenes, far above chance, and evaluated again from disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.cli import main
from systems import checkpoints as saved
from tests.evaluation.scenes import write_nlvr2, write_refcoco

TRAIN, VAL = range(192), range(192, 240)  # scenes of the splits of the fixture `shards`


def tuned(capsys: pytest.CaptureFixture[str], checkpoint: Path, task: str, shards: Path, *words: str) -> dict[str, Any]:
    capsys.readouterr()
    common = ["--task", task, "--shards", str(shards), "--quiet", "--json", "--device", "cpu"]
    assert main(["finetune", str(checkpoint), *common, *words]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def evaluated(capsys: pytest.CaptureFixture[str], out: Path, task: str, shards: Path, *words: str) -> dict[str, Any]:
    capsys.readouterr()
    common = ["--task", task, "--shards", str(shards), "--split", "val", "--quiet", "--json", "--device", "cpu"]
    assert main(["evaluate", str(out), *common, *words]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def files(task: str, folder: Path) -> list[str]:
    write, ending = (write_nlvr2, "jsonl") if task == "nlvr2" else (write_refcoco, "json")
    train, val = (write(folder / f"{name}.{ending}", rows) for name, rows in (("train", TRAIN), ("val", VAL)))
    return ["--file", str(train), "--val-file", str(val)]


# Questions about colours need the thing that the question names. Expressions the region that shows the thing.
MARGINS = {"vqa": 0.4, "nlvr2": 0.25, "refcoco": 0.4}
EPOCHS = {"vqa": "14", "nlvr2": "6", "refcoco": "3"}


@pytest.mark.parametrize("task", MARGINS)
def test_a_head_learns_its_task(
    task: str, checkpoints: dict[str, Path], shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [] if task == "vqa" else files(task, tmp_path)
    out = tmp_path / "out"
    found = tuned(capsys, checkpoints["uniter"], task, shards, *given, "--epochs", EPOCHS[task], "--out", str(out))
    figures = found["task"]
    assert figures["accuracy"] > figures["chance"] + MARGINS[task]
    (objective,) = found["objectives"].values()
    assert objective["held_out_loss"] < objective["untrained_loss"]
    again = evaluated(capsys, out, task, shards, *(["--file", given[-1]] if given else []))
    assert {name: again[name] for name in figures} == pytest.approx(figures)
    assert json.loads((out / "metrics.json").read_text(encoding="utf-8"))["task"] == pytest.approx(figures)


@pytest.mark.parametrize("task", ["nlvr2", "refcoco"])
def test_the_same_seed_gives_the_same_weights(
    task: str, checkpoints: dict[str, Path], shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = files(task, tmp_path)
    for name in ("one", "two"):
        tuned(capsys, checkpoints["uniter"], task, shards, *given, "--epochs", "0.2", "--out", str(tmp_path / name))
    one, two = (saved.load(tmp_path / name)[0].state_dict() for name in ("one", "two"))
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("system", ["clip", "uniter"])
def test_retrieval_goes_on_with_the_recipes_own_objective(
    system: str, checkpoints: dict[str, Path], shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    found = tuned(capsys, checkpoints[system], "retrieval", shards, "--epochs", "1", "--out", str(out))
    assert list(found["objectives"]) == list(saved.load(out)[0].recipe.objectives)
    assert found["task"]["images"] == len(VAL)
    again = evaluated(capsys, out, "retrieval", shards)
    assert again["whole"]["text_to_image"] == pytest.approx(found["task"]["whole"]["text_to_image"])


def test_a_system_without_regions_does_nlvr2_and_is_refused_for_refcoco(
    checkpoints: dict[str, Path], shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given, out = files("nlvr2", tmp_path), str(tmp_path / "out")
    found = tuned(capsys, checkpoints["vilt"], "nlvr2", shards, *given, "--epochs", "0.2", "--out", out)
    assert 0 <= found["task"]["accuracy"] <= 1
    words = ["--task", "refcoco", "--shards", str(shards), *files("refcoco", tmp_path), "--quiet"]
    assert main(["finetune", str(checkpoints["vilt"]), *words]) == 1
    assert "it chooses among regions" in capsys.readouterr().err


def test_villa_is_tuned_against_perturbations(
    checkpoints: dict[str, Path], shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its fine-tuning is adversarial as its pre-training (arXiv:2006.06195, section 3)."""
    out = tmp_path / "out"
    found = tuned(capsys, checkpoints["villa"], "vqa", shards, "--epochs", "0.2", "--out", str(out))
    assert saved.load(out)[0].recipe.training.adversarial is not None
    assert found["task"]["questions"] > 0


WRONG = {
    "a box outside": ("refcoco", [{"image": "scene_0000", "text": "it", "box": [0, 0, 900, 10]}], "write x1 y1 x2 y2"),
    "no box": ("refcoco", [{"image": "scene_0000", "text": "it"}], "write 4 numbers"),
    "no label": ("nlvr2", [{"identifier": "dev-0-0-0", "sentence": "it"}], "write True or False"),
    "an identifier": ("nlvr2", [{"identifier": "7", "sentence": "it", "label": "True"}], "as dev-850-0-1"),
    "no pictures": (
        "nlvr2", [{"identifier": "dev-0-0-0", "sentence": "it", "label": "True"}], "no image of the split has the name",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_example_is_named(
    case: str, checkpoints: dict[str, Path], shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task, content, message = WRONG[case]
    (tmp_path / "wrong.json").write_text(json.dumps(content), encoding="utf-8")
    words = ["--file", str(tmp_path / "wrong.json"), "--val-file", str(tmp_path / "wrong.json"), "--quiet"]
    assert main(["finetune", str(checkpoints["uniter"]), "--task", task, "--shards", str(shards), *words]) == 1
    told = capsys.readouterr().err
    assert message in told
    assert "entry 0" in told
