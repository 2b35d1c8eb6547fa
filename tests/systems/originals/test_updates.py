"""Steps of AdamW and rates of the schedules against the numbers of UNITER's code and of open_clip's."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from systems import recipes
from tests.systems.originals import updates
from tests.systems.originals.drawn import expected
from tests.systems.originals.updates import RISING, TOTAL
from trainer.optimise import lr_share

WANTED = expected("updates")


def shares(recipe: str) -> list[float]:
    training = replace(recipes.load(recipe).training, steps=TOTAL, warmup=RISING / TOTAL)
    return [lr_share(step, training) for step in range(TOTAL)]


def test_clips_rate_falls_alike() -> None:
    """open_clip's is full in the last step of the warm-up, ours in the first one after it."""
    found = shares("clip")
    assert found[RISING:] == pytest.approx(WANTED["cosine"][RISING:])
    assert found[:RISING] == pytest.approx([share * RISING / (RISING + 1) for share in WANTED["cosine"][:RISING]])


def test_uniters_rate_falls_a_step_earlier_there() -> None:
    """Its steps count from 1, so that the last has a rate of 1e-8."""
    found = shares("uniter")
    assert found[RISING:] == pytest.approx(WANTED["linear"][RISING - 1 : -1])
    assert found[:RISING] == pytest.approx([share * RISING / (RISING + 1) for share in WANTED["linear"][:RISING]])


def test_adamw_takes_the_same_steps() -> None:
    """Where eps is divided as there: the original adds it before the second moment is corrected for the start.

    It lets weights decay after the step, torch before it, which is a millionth of a step each time.
    """
    training = recipes.load("uniter").training
    assert (training.lr, training.betas, training.eps) == (updates.LR, updates.BETAS, updates.EPS)
    assert training.weight_decay == updates.DECAY
    given, start = updates.weights(), updates.weights()
    optimiser = torch.optim.AdamW(
        given, lr=updates.LR, betas=updates.BETAS, eps=updates.EPS, weight_decay=updates.DECAY
    )
    for step in range(updates.STEPS):
        for weight, gradient in zip(given, updates.gradients(step), strict=True):
            weight.grad = gradient
        optimiser.param_groups[0]["eps"] = updates.EPS / (1 - updates.BETAS[1] ** (step + 1)) ** 0.5
        optimiser.step()
        found = updates.distances(given, start)
        for number, wanted in WANTED["adamw"][str(step)].items():
            assert found[number] == pytest.approx(wanted, abs=1e-5)
