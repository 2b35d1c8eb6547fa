"""How long the recipes train, by arithmetic from what the papers say."""

from __future__ import annotations

import pytest

from systems import recipes

# Epochs and pairs, or pictures. Conceptual Captions had 3.1 million left for ViLBERT. InterBERT says no number.
EPOCHS = {
    "clip": (32, 400e6), "e2e_vlp": (200, 6.01e6), "interbert": (15, 3.1e6), "kaleidobert": (25, 260_480),
    "vilbert": (10, 3.1e6), "vit": (90, 14e6),
}  # fmt: skip
WARM_UP = {"align": 10_000, "clip": 2_000, "soho": 1_000, "vit": 10_000}  # steps


@pytest.mark.parametrize("name", EPOCHS)
def test_a_recipe_trains_for_the_published_epochs(name: str) -> None:
    training, (epochs, pairs) = recipes.load(name).training, EPOCHS[name]
    assert training.batch_size is not None
    assert training.steps == pytest.approx(epochs * pairs / training.batch_size, rel=0.03)


@pytest.mark.parametrize("name", WARM_UP)
def test_the_rate_rises_for_as_many_steps(name: str) -> None:
    training = recipes.load(name).training
    assert training.steps * training.warmup == pytest.approx(WARM_UP[name], rel=0.05)


def test_lxmerts_questions_count_twice_in_its_last_ten_of_twenty_epochs() -> None:
    """Its paper: 20 epochs are about 670,000 steps."""
    recipe = recipes.load("lxmert")
    question = recipe.objectives["qa"]
    assert recipe.training.steps == 670_000
    assert (question.start, question.weight) == (10 / 20, 2.0)
