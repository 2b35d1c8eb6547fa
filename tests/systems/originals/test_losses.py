"""ViLT, ViT, FashionBERT and VILLA: losses and gradients of ours against the numbers of the original code."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pairloom.loader.batch import IGNORE, Batch
from systems import recipes
from systems.objectives import colours
from systems.objectives.itm import head, loss
from systems.objectives.patch_kl import feature_kl
from tests.systems.originals import fashionbert, villa, vilt, vit
from tests.systems.originals.drawn import agree, expected, fill, lengths, measured
from tests.systems.originals.ours import Model, batch_of, region_batch, word_batch
from trainer import adversarial
from trainer.balance import adaptive
from trainer.contract import Encoded, Nudges, Scored, Shapes, Widths
from trainer.learner import Losses
from trainer.precision import Arithmetic
from trainer.recipe import Adversarial


def test_vilt_matches_and_aligns() -> None:
    """Start and end are no words, and the picture's class token is no patch. The original's distance is in float32."""
    wanted, given = expected("vilt"), vilt.given()
    settings: Any = recipes.load("vilt").objectives["itm"].settings
    model = Model(Widths(vilt.H, vilt.H, vilt.H))
    layer = head(settings, model, Shapes(0))
    weights = fill(layer, {"weight": "itm.weight", "bias": "itm.bias"})
    words = word_batch(torch.zeros(vilt.B, vilt.T, dtype=torch.long), lengths(vilt.WORDS, vilt.T))
    words.word_ids_BT[:, 0] = -1
    words.word_ids_BT[torch.arange(vilt.B), torch.tensor(vilt.WORDS) - 1] = -1
    encoded = Encoded(given["words"], given["patches"][:, 1:], lengths(vilt.PATCHES, vilt.U), given["pooled"])
    found = loss(model, encoded, layer, batch_of(words, torch.tensor(wanted["match"]) == 1), settings)
    agree(measured(found.loss, weights | given), wanted["all"], 1e-5)


class Renumbered(nn.Module):
    """Scores of colours whose lowest bits are red's, in our order: blue's are the lowest."""

    def forward(self, logits_MC: Tensor) -> Tensor:
        levels = 2**vit.BITS
        by_colour: Tensor = logits_MC.unflatten(-1, (levels, levels, levels))
        return by_colour.transpose(-1, -3).flatten(-3)


def test_vits_colours() -> None:
    """vit-pytorch puts a mean at a border between two levels into the lower, and ours into the upper."""
    settings, given = colours.Settings(patch=vit.PATCH, bits=vit.BITS), vit.logits()
    found = [colours.mean_colours(one, settings, vit.MEAN, vit.STD) for one in vit.pixels().numpy()]
    labels = torch.where(vit.HIDDEN, torch.from_numpy(np.stack(found)), IGNORE)
    assert labels.unique().numel() > 5
    rows = batch_of(word_batch(torch.zeros(vit.B, 1).long(), torch.ones(vit.B, 1) > 0), targets={"colours_U": labels})
    encoded, layer = Encoded(given, given, vit.HIDDEN, given[:, 0]), Renumbered()
    model: Any = Model(Widths(vit.COLOURS, vit.COLOURS, vit.COLOURS))
    found_loss = colours.loss(model, encoded, cast(nn.Linear, layer), rows, settings).loss
    agree(measured(found_loss, {"logits": given}), expected("vit"), 1e-6)


def test_fashionberts_kl_and_weights() -> None:
    """Probabilities are cut off at 1e-7 there."""
    wanted, given = expected("fashionbert"), fashionbert.given()
    kl = feature_kl(given["crops"], fashionbert.features()).mean()
    agree(float(kl.detach()), wanted["kl"], 1e-6)
    losses = torch.stack([given["mlm"], given["itm"], kl])
    agree(measured((adaptive(losses) * losses).sum(), given), wanted["all"], 1e-6)


class Learner(nn.Module):
    """What adversarial training asks of a learner, around the model that the original trained."""

    def __init__(self, model: villa.Small) -> None:
        super().__init__()
        self.model = model
        self.model.word_weight = model.words.weight

    def forward(self, batch: Batch, nudges: Nudges | None = None) -> Losses:
        (ids, features, labels), nudges = villa.inputs(), nudges or Nudges()
        parts = (0.0 if one is None else one for one in (nudges.words_BTH, nudges.regions_BRD))
        scored = Scored.of_classes(self.model.scores(ids, features, *parts), labels)
        return Losses(scored.loss, {"itm": scored})


@pytest.mark.parametrize("case", sorted(villa.CASES))
def test_villas_step_has_the_same_gradients(case: str) -> None:
    """Perturbations are in float32 on both sides."""
    given, model = villa.CASES[case], villa.Small()
    weights = fill(model, villa.WEIGHTS)
    ids, features, _ = villa.inputs()
    seen = [torch.ones(given.shape[:2]) > 0 for given in (ids, features)]
    rows = batch_of(word_batch(ids, seen[0]), regions=region_batch(features, seen[1], ~seen[1]))
    settings = Adversarial(
        steps=villa.STEPS, lr=villa.LR, kl=villa.KL, words=True, regions="image" in given["adv_modality"],
        norm=given["norm_type"], most=given["adv_max_norm"] or None, together="alter" not in given["adv_modality"],
    )  # fmt: skip
    learner: Any = Learner(model)
    adversarial.backward(learner, rows, settings, Arithmetic())
    agree(villa.summary(weights), expected("villa")[case], 1e-5)
