"""Updates against arithmetic done by hand: BERT's Adam, learning rates of parts, and how they fall."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pairloom.errors import ConfigError
from systems import recipes
from tests.systems.test_pixels import tiny
from trainer.bert_adam import BertAdam
from trainer.contract import Shapes
from trainer.learner import Learner
from trainer.optimise import begin_draws, lr_share, parameter_groups, updates
from trainer.recipe import Sgd


def test_bert_adam_is_its_formula_written_out() -> None:
    random = np.random.default_rng(0)
    value, gradients = random.normal(size=(3, 4)), random.normal(size=(5, 3, 4)) * 2
    parameter = nn.Parameter(torch.tensor(value))
    lr, first, second, eps, decay = 0.1, 0.9, 0.99, 1e-6, 0.01
    optimiser = BertAdam([{"params": [parameter], "weight_decay": decay}], lr, (first, second), eps)
    mean, square = np.zeros_like(value), np.zeros_like(value)
    for gradient in gradients:
        parameter.grad = torch.tensor(gradient)
        optimiser.step()
        norm = np.sqrt((gradient**2).sum())
        assert norm > 1
        gradient = gradient / (norm + 1e-6)
        mean, square = first * mean + (1 - first) * gradient, second * square + (1 - second) * gradient**2
        value = value - lr * (mean / (np.sqrt(square) + eps) + decay * value)
        np.testing.assert_allclose(parameter.detach().numpy(), value, rtol=1e-10)


def test_its_first_step_is_larger_than_adams_and_its_state_is_kept() -> None:
    """Adam's first step has length lr. Without the correction it is 0.1 / √0.001 of that."""
    parameter = nn.Parameter(torch.zeros(1))
    optimiser = BertAdam([{"params": [parameter]}], 1e-3, (0.9, 0.999), 0.0, largest=None)
    parameter.grad = torch.ones(1)
    optimiser.step()
    assert float(parameter.detach()) == pytest.approx(-1e-3 * 0.1 / 0.001**0.5)
    same = nn.Parameter(parameter.detach().clone())
    other = BertAdam([{"params": [same]}], 1e-3, (0.9, 0.999), 0.0, largest=None)
    other.load_state_dict(deepcopy(optimiser.state_dict()))
    for one, tensor in ((optimiser, parameter), (other, same)):
        tensor.grad = torch.full((1,), 0.5)
        one.step()
    assert torch.equal(parameter, same)


def test_lr_falls_to_a_tenth_at_each_drop() -> None:
    training = replace(recipes.load("pixelbert").training, steps=80, warmup=0.05)
    shares = [lr_share(step, training) for step in range(80)]
    assert shares[:4] == [0.2, 0.4, 0.6, 0.8]
    assert shares[4:50] == [1.0] * 46
    assert shares[50:70] == pytest.approx([0.1] * 20)
    assert shares[70:] == pytest.approx([0.01] * 10)


def test_drops_without_their_schedule_are_refused() -> None:
    with pytest.raises(ConfigError, match="set schedule to drops"):
        recipes.load("uniter", "tiny", {"training": {"drops": [0.5]}})


def test_parts_have_learning_rates_of_their_own() -> None:
    learner = tiny("vit")
    parts = {"model.vit.embeddings": 1e-5, "heads.": 1e-2}
    training = replace(learner.recipe.training, lr_of=parts)
    found = {id(parameter): group for group in parameter_groups(learner, training) for parameter in group["params"]}  # type: ignore[attr-defined]
    for name, parameter in learner.named_parameters():
        group = found[id(parameter)]
        assert group.get("lr") == next((lr for part, lr in parts.items() if name.startswith(part)), None)
        assert group["weight_decay"] == (training.weight_decay if parameter.dim() >= 2 else 0.0)
    with pytest.raises(ConfigError, match=r"any of heads\.classes, heads\.colours, model\.vit"):
        parameter_groups(learner, replace(training, lr_of={"model.backbone": 1e-5}))


def test_the_rates_of_parts_follow_the_schedule() -> None:
    learner: Any = tiny("vit")
    learner.recipe = replace(learner.recipe, training=replace(learner.recipe.training, lr_of={"heads.": 0.5}))
    optimiser, schedule = updates(learner)
    before = [group["lr"] for group in optimiser.param_groups]
    for parameter in learner.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step()
    schedule.step()
    after = [group["lr"] for group in optimiser.param_groups]
    assert len({round(now / then, 9) for now, then in zip(after, before, strict=True)}) == 1
    assert len(set(before)) == 2


# What the authors' code drops: (of words, places and blocks, of attention's weights, of what matching reads)
PUBLISHED = {
    "vilt": ({"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.0}, "vilt"),
    "vit": ({"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.0}, "vit"),
}


@pytest.fixture
def on_no_device() -> Any:
    with torch.device("meta"):
        yield


@pytest.mark.parametrize("name", PUBLISHED)
def test_vits_drop_nothing_of_attention(name: str, on_no_device: None) -> None:
    wanted, part = PUBLISHED[name]
    config = getattr(base(name).model, part).config
    assert {key: getattr(config, key) for key in wanted} == wanted


@pytest.mark.parametrize("name", ["vilbert", "interbert"])
def test_the_product_that_matching_reads_is_dropped(name: str, on_no_device: None) -> None:
    model: Any = base(name).model
    assert model.pooled_dropout.p == 0.1
    if name == "interbert":
        (layer, *_) = model.regions_alone
        assert layer.attention.self.dropout.p == 0.1
        assert layer.attention.output.dropout.p == 0.2


@pytest.mark.parametrize("name", ["fashionbert", "kaleidobert"])
def test_features_of_crops_are_dropped_before_they_are_read(name: str, on_no_device: None) -> None:
    assert base(name).model.patches.feature_dropout.p == 0.1


def base(name: str) -> Any:
    shapes = Shapes(30522, feature_width=2048, num_classes=1601, num_attributes=401, image_size=224)
    return Learner(recipes.load(name, "base"), shapes)


def grid_learner(part: str) -> Any:
    """Its network is not frozen, and has another optimiser."""
    learner = tiny("soho", grid_stream={"backbone": {"frozen": []}})
    settings = {part: Sgd(lr=0.5, momentum=0.9, weight_decay=0.1)}
    learner.recipe = replace(learner.recipe, training=replace(learner.recipe.training, sgd_of=settings))
    return learner


def test_sgd_of_a_part_is_its_formula_and_the_rest_stays_adams() -> None:
    part = "model.project."
    one, other = grid_learner(part), grid_learner(part)
    other.load_state_dict(one.state_dict())
    other.recipe = replace(other.recipe, training=replace(other.recipe.training, sgd_of={}))
    weight = one.model.project.weight.detach().clone()
    (optimiser, schedule), (adam, _) = updates(one), updates(other)
    warm = lr_share(0, one.recipe.training)
    velocity: Any = None
    for step in range(3):
        for learner in (one, other):
            torch.manual_seed(step)
            for parameter in learner.parameters():
                parameter.grad = torch.randn_like(parameter) if parameter.requires_grad else None
        gradient = one.model.project.weight.grad + 0.1 * weight
        velocity = gradient if velocity is None else 0.9 * velocity + gradient
        weight = weight - 0.5 * warm * velocity
        optimiser.step()
        adam.step()
        torch.testing.assert_close(one.model.project.weight.detach(), weight)
        torch.testing.assert_close(one.model.word_weight, other.model.word_weight)
    for parameter in one.parameters():
        parameter.grad = None
    optimiser.step()
    schedule.step()
    assert optimiser.param_groups[-1]["lr"] == pytest.approx(0.5 * lr_share(1, one.recipe.training))


def test_two_optimisers_resume_as_one() -> None:
    one, other = (grid_learner("model.project.") for _ in range(2))
    other.load_state_dict(one.state_dict())
    (optimiser, schedule), (resumed, later) = updates(one), updates(other)

    def step(learner: Any, optimiser: Any, schedule: Any, seed: int) -> None:
        torch.manual_seed(seed)
        for parameter in learner.parameters():
            parameter.grad = torch.randn_like(parameter) if parameter.requires_grad else None
        optimiser.step()
        schedule.step()

    step(one, optimiser, schedule, 0)
    other.load_state_dict(one.state_dict())
    resumed.load_state_dict(deepcopy(optimiser.state_dict()))
    later.load_state_dict(schedule.state_dict())
    for seed in (1, 2, 3):  # of which the later ones have rates that the schedule set after the state was loaded
        step(one, optimiser, schedule, seed)
        step(other, resumed, later, seed)
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


@pytest.mark.parametrize(("name", "decay"), [("pixelbert", 5e-4), ("soho", 1e-4)])
def test_the_network_of_pixels_learns_by_sgd(name: str, decay: float, on_no_device: None) -> None:
    learner = base(name)
    groups = parameter_groups(learner, learner.recipe.training)
    sgd = {id(parameter) for group in groups if "momentum" in group for parameter in group["params"]}  # type: ignore[attr-defined]
    own = {id(parameter) for parameter in learner.model.backbone.parameters() if parameter.requires_grad}
    assert sgd == own
    assert {group["weight_decay"] for group in groups if "momentum" in group} == {0.0, decay}


@pytest.mark.parametrize("seed", [0, 7 * 1_000_003 + (3 << 48)])
def test_a_step_draws_as_after_torchs_manual_seed(seed: int) -> None:
    begin_draws(seed, torch.device("cpu"))
    found = torch.rand(4)
    torch.manual_seed(seed)
    torch.testing.assert_close(found, torch.rand(4), rtol=0, atol=0)
