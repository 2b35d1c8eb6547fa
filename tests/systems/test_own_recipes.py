"""A recipe of the user's own: a file that extends one of ours, with an objective and a model beside it."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pairloom.errors import ConfigError, InputError
from pipeline.cli import main
from systems import checkpoints, recipes
from tests.pairloom.loader.loading import write_folder
from trainer import loop
from trainer.recipe import Part

OBJECTIVE = '''
"""How many of its words a caption has, told from words and regions together."""

from dataclasses import dataclass

import numpy as np
from torch import nn

from trainer.contract import Scored


@dataclass(frozen=True, kw_only=True)
class Settings:
    most: int


def head(settings, model, shapes):
    return nn.Linear(model.widths.pooled, settings.most + 1)


def prepare(example, row, make, settings, rng):
    words = min(int(example.words.word_ids_T.max()) + 1, settings.most)
    return example.with_targets(word_count=np.array(words))


def loss(model, encoded, head, batch, settings):
    return Scored.of_classes(head(encoded.pooled_BH), batch.targets["word_count"])
'''
RECIPE = """
extends: uniter
paper: ours
objectives:
  word_count: {most: 9}
only: [mlm, word_count]
retrieval: null
sizes: {tiny: {retrieval: null}}  # where uniter says how many images are matched
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder with counting.yaml and its objective."""
    (tmp_path / "counting.yaml").write_text(RECIPE, encoding="utf-8")
    (tmp_path / "objectives").mkdir()
    (tmp_path / "objectives" / "word_count.py").write_text(OBJECTIVE, encoding="utf-8")
    return tmp_path


def test_a_file_extends_a_recipe_of_ours_and_names_an_objective_beside_it(own: Path) -> None:
    recipe = recipes.load(own / "counting.yaml", "tiny")
    assert recipe.name == "counting"
    assert list(recipe.objectives) == ["mlm", "word_count"]
    assert recipe.model == recipes.load("uniter", "tiny").model
    assert recipe.objectives["word_count"].home == str(own / "objectives" / "word_count.py")
    assert recipe.expects == {}  # what uniter promises is uniter's


def test_it_is_trained_in_other_processes_too_and_its_checkpoint_opens(own: Path) -> None:
    shards = write_folder(own / "shards", (9, 8), splits=("train", "val"))
    config = loop.Config(size="tiny", steps=3, batch_size=4, threads=1, workers=1, device="cpu")
    recipe = recipes.load(str(own / "counting.yaml"), config.size, config.overrides())
    result = loop.train(recipe, shards, config)
    assert set(result.metrics["objectives"]) == {"mlm", "word_count"}
    loop.save(result, own / "out", None)
    learner, _ = checkpoints.load(own / "out", beside=own)
    for name, value in learner.state_dict().items():
        assert torch.equal(value, result.learner.state_dict()[name])
    with pytest.raises(ConfigError, match="objectives has no word_count"):
        checkpoints.load(own / "out")


def test_the_command_line_takes_a_file(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shards, file = write_folder(own / "shards", (9, 8), splits=("train", "val")), str(own / "counting.yaml")
    assert main(["recipe", "check", file, str(shards), "--size", "tiny"]) == 0
    assert main(["recipe", "show", file]) == 0
    assert "extends: uniter" in capsys.readouterr().out
    places = ["--out", str(own / "out"), "--metrics", str(own), "--plots", str(own), "--params", str(own / "p.yaml")]
    (own / "p.yaml").write_text("train: {counting: {steps: 2, batch_size: 4, device: cpu}}", encoding="utf-8")
    assert main(["train", "--recipe", file, "--shards", str(shards), "--quiet", *places]) == 0
    assert (own / "train-counting.json").exists()


def test_a_file_may_extend_another_file(own: Path) -> None:
    (own / "longer.yaml").write_text("extends: ./counting.yaml\ntraining: {steps: 7}\n", encoding="utf-8")
    recipe = recipes.load(own / "longer.yaml")
    assert recipe.training.steps == 7
    assert "word_count" in recipe.objectives


@pytest.mark.parametrize("names", [("a",), ("a", "b"), ("a", "b", "c")])
def test_a_circle_of_extends_is_refused_by_its_names(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name, below in zip(names, (*names[1:], names[0]), strict=True):
        (tmp_path / f"{name}.yaml").write_text(f"extends: {below}.yaml\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="extend each other in a circle") as error:
        recipes.load(tmp_path / "a.yaml")
    assert all(f"{name}.yaml" in error.value.args[0] for name in names)


def test_a_file_that_is_missing_or_no_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such recipe file"):
        recipes.load(tmp_path / "none.yaml")
    (tmp_path / "broken.yaml").write_text("extends: [", encoding="utf-8")
    with pytest.raises(InputError, match="cannot be read") as error:
        recipes.load(tmp_path / "broken.yaml")
    assert error.value.args[1].endswith("broken.yaml")
    (tmp_path / "list.yaml").write_text("- uniter\n", encoding="utf-8")
    with pytest.raises(InputError, match="no settings"):
        recipes.load(tmp_path / "list.yaml")
    (tmp_path / "half.yaml").write_text("paper: mine\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="missing"):
        recipes.load(tmp_path / "half.yaml")


def test_own_modules_of_one_name_are_not_taken_for_each_other(tmp_path: Path) -> None:
    source = "from dataclasses import dataclass\n\n@dataclass(frozen=True)\nclass Settings:\n    {}: int\n"
    parts = []
    for kind in ("models", "objectives"):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "same.py").write_text(source.format(kind), encoding="utf-8")
        part = Part(str(tmp_path / kind / "same.py"), None)
        parts.append(replace(part, settings=part.module.Settings(7)))
    for part, kind in zip(parts, ("models", "objectives"), strict=True):
        assert vars(pickle.loads(pickle.dumps(part)).settings) == {kind: 7}


def test_retrieval_needs_an_objective_that_compares_image_and_text() -> None:
    with pytest.raises(ConfigError, match="objective mlm does not say how well image and text match") as error:
        recipes.load("uniter", "tiny", {"retrieval": {"objective": "mlm"}})
    assert "name one that has a `similarity`" in str(error.value)
