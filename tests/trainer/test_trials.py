"""Tests in the middle of a training, the best weights, and the moving average of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from devices.parallel import alone
from pairloom.errors import ConfigError
from systems import checkpoints, recipes
from tests.pairloom.loader.loading import write_folder
from tests.training import train
from trainer import loop
from trainer.average import Average, current
from trainer.contract import Shapes
from trainer.evaluate import Held
from trainer.learner import Learner
from trainer.trials import better

CONFIG = loop.Config(steps=6, batch_size=8, lr=5e-4, threads=1, device="cpu")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("shards"), (9, 8), splits=("train", "val"))


class Seen:
    """What a watch is told."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.tests: dict[int, dict[str, float]] = {}

    def begin(self, learner: Any, done: int) -> None:
        self.steps.append(done)

    def step(self, taken: Any) -> None:
        self.steps.append(taken.step)

    def tested(self, step: int, figures: Any) -> None:
        self.tests[step] = dict(figures)


@pytest.mark.parametrize("by", ["loss", "retrieval"])
def test_the_best_weights_are_kept_as_a_checkpoint_that_gives_the_figures_of_its_test(
    by: Any, shards: Path, tmp_path: Path
) -> None:
    """The weights of a training of as many steps with the same rates, by a schedule that ends later."""
    config, seen = replace(CONFIG, eval_every=2, best_by=by), Seen()
    recipe = recipes.load("clip", "tiny", config.overrides())
    result = loop.train(recipe, shards, config, out=tmp_path / "clip", watch=seen)
    assert seen.steps == list(range(7))
    assert list(seen.tests) == [2, 4, 6] == [test["step"] for test in result.metrics["tests"]]
    best = min(seen.tests.values(), key=lambda test: test["better"])
    kept, _ = checkpoints.load(tmp_path / "clip-best")
    last = result.learner.state_dict()
    same = all(torch.equal(value, last[name]) for name, value in kept.state_dict().items())
    assert same == (best["step"] == 6)
    assert not list(tmp_path.glob("*.part"))
    final = result.metrics["objectives"]["contrastive"]["held_out_loss"]
    assert seen.tests[6]["contrastive_loss"] == pytest.approx(final)


def test_tests_in_between_change_nothing(shards: Path) -> None:
    one, other = (train("clip", shards, replace(CONFIG, eval_every=every)) for every in (None, 1))
    assert one.curve == other.curve
    for wanted, found in zip(one.learner.state_dict().values(), other.learner.state_dict().values(), strict=True):
        assert torch.equal(wanted, found)


def test_what_is_better() -> None:
    held = {"a": Held(1.0, None, None, 1, 1), "b": Held(2.0, None, None, 1, 1)}
    recalls = {way: {"r_at_1": 0.1, "r_at_5": 0.2, "r_at_10": 0.6} for way in ("text_to_image", "image_to_text")}
    assert better((held, None), "loss") == 1.5
    assert better((held, recalls), "retrieval") == pytest.approx(-0.3)


def test_retrieval_decides_only_where_there_is_some(shards: Path) -> None:
    with pytest.raises(ConfigError, match="best_by is retrieval, and the recipe has none"):
        train("vit", shards, replace(CONFIG, best_by="retrieval"))


def test_the_average_is_that_of_its_definition() -> None:
    """0.9 of itself and 0.1 of the weights after each step, worked out beside it."""
    torch.manual_seed(0)
    learner = Learner(recipes.load("clip", "tiny"), Shapes(300, image_size=80))
    average = Average(learner, 0.9)
    name, weight = next((name, weight) for name, weight in learner.named_parameters() if weight.requires_grad)
    wanted = weight.detach().double().clone()
    for step in range(5):
        with torch.no_grad():
            weight.add_(step + 1.0)
        average.update()
        wanted = 0.9 * wanted + 0.1 * weight.detach().double()
    found = current(learner, alone(learner), average)
    torch.testing.assert_close(found.state_dict()[name].double(), wanted, rtol=1e-5, atol=1e-5)
    assert found is not learner
    assert current(learner, alone(learner), None) is learner


def test_an_average_is_saved_and_tested_in_the_place_of_the_weights(shards: Path) -> None:
    """Of decay 0 it is the weights themselves; of a slow one it stays near the start."""
    plain, same, slow = (train("clip", shards, replace(CONFIG, ema=decay)) for decay in (None, 0.0, 0.999))
    for one, other in zip(plain.learner.state_dict().values(), same.learner.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other)
    figures = slow.metrics["objectives"]["contrastive"]
    assert figures["held_out_loss"] == pytest.approx(figures["untrained_loss"], abs=0.01)
    assert figures["held_out_loss"] != plain.metrics["objectives"]["contrastive"]["held_out_loss"]
