"""CLIP, ALIGN and MURAL: our contrastive losses against the numbers of the original code and of coyo-align's."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from systems import recipes
from systems.objectives import contrastive, translation
from tests.systems.originals import align, clip
from tests.systems.originals.drawn import agree, expected, measured, numbers
from tests.systems.originals.ours import batch_of, word_batch
from trainer.contract import Embedded, Shapes


def batch(rows: int, **targets: Tensor) -> Any:
    ids = torch.zeros(rows, 1, dtype=torch.long)
    return batch_of(word_batch(ids, ids == 0), targets=targets)


def started(recipe: str, objective: str, value: float) -> tuple[Any, Any]:
    """(settings, head), its one number set to `value`."""
    part = recipes.load(recipe).objectives[objective]
    head: Any = part.module.head(part.settings, SimpleNamespace(), Shapes(0)).double()
    with torch.no_grad():
        head.value.fill_(value)
    return part.settings, head


@pytest.mark.parametrize("step", clip.STEPS)
def test_clips_loss_and_the_bound_of_its_scale(step: float) -> None:
    """Clamped before the loss is computed here, after the step there. Its gradient is that of the bound."""
    wanted, given = expected("clip")[str(step)], clip.given()
    settings, head = started("clip", "contrastive", step)
    images, texts = (F.normalize(given[name], dim=-1) for name in ("images", "texts"))
    found = contrastive.between(images, texts, head, batch(clip.B), settings)
    agree(measured(found.loss, given | {"scale": head.value}), wanted["loss"])
    agree(float(head().detach()), wanted["scale"])
    logits = head() * contrastive.of_vectors(images, texts)
    agree(float((logits * numbers("asked", clip.B, clip.B)).sum().detach()), wanted["logits"])


def test_clips_scale_starts_alike() -> None:
    """model.py: the logarithm of 1 / 0.07."""
    part = recipes.load("clip").objectives["contrastive"]
    head: Any = part.module.head(part.settings, SimpleNamespace(), Shapes(0))
    assert float(head.value.detach()) == pytest.approx(np.log(1 / 0.07))


@pytest.mark.parametrize(("most", "lowest"), [(None, contrastive.LOWEST_TEMPERATURE), (50.0, 1 / 50)])
def test_a_temperature_comes_back_from_below_its_floor(most: float | None, lowest: float) -> None:
    """Papers and coyo-align have no floor. A step past zero would turn every similarity around."""
    settings = replace(recipes.load("align").objectives["contrastive"].settings, max_scale=most)
    head = contrastive.Head(cast(contrastive.Settings, settings))
    optimiser = torch.optim.SGD(head.parameters(), lr=2.0)
    head.value.grad = torch.tensor(1.0)
    optimiser.step()
    assert float(head.value.detach()) == -1
    assert float(head().detach()) == pytest.approx(1 / lowest)
    optimiser.zero_grad()
    (1e-3 * head()).backward()  # asks for a lower scale, so a higher temperature
    optimiser.step()
    assert float(head.value.detach()) > lowest


@pytest.mark.parametrize("recipe", ["align", "mural"])
def test_aligns_loss(recipe: str) -> None:
    given = align.given()
    settings, head = started(recipe, "contrastive", align.TEMPERATURE)
    images, texts = (F.normalize(given[name], dim=-1) for name in ("images", "texts"))
    found = contrastive.between(images, texts, head, batch(align.B), settings)
    agree(measured(found.loss, given | {"temperature": head.value}), expected("align"))


def test_murals_texts_meet_by_the_same_loss() -> None:
    """No code was released. The recipe takes ALIGN's loss for the second task, so that its numbers hold for it."""
    given = align.given()
    settings, head = started("mural", "translation", align.TEMPERATURE)
    captions, translations = (F.normalize(given[name], dim=-1) for name in ("images", "texts"))
    model: Any = SimpleNamespace(texts=lambda _: translations)
    targets = {"translation_ids": torch.zeros(align.B, 2, dtype=torch.long), "translated": torch.ones(align.B) > 0}
    found = translation.loss(model, Embedded(captions, captions), head, batch(align.B, **targets), settings)
    agree(measured(found.loss, given | {"temperature": head.value}), expected("align"))
