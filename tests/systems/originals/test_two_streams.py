"""ViLBERT, InterBERT and BertAdam: the recipes' losses, gradients, draws and steps against the original code's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pairloom.loader.batch import Batch
from pairloom.loader.examples import RegionColumns
from systems import recipes
from systems.objectives.masking import mask_regions
from systems.units.regions import seven
from tests.systems.originals import interbert, rates, vilbert
from tests.systems.originals.drawn import Numbers, agree, expected, fill, measured, numbers, transform_names
from tests.systems.originals.ours import Model, batch_of, region_batch, word_batch
from tests.systems.originals.vilbert import B, C, H, J, R, T, V, W
from trainer.bert_adam import BertAdam
from trainer.contract import Encoded, Shapes, Widths

SHAPES = Shapes(V, feature_width=W, num_classes=C)
NAMES = {
    "mlm": transform_names("transform.", "mlm", "0", "2") | {"bias_V": "mlm.bias"},
    "itm": {"weight": "itm.weight", "bias": "itm.bias"},
    "mrc": transform_names("0.", "mrc", "0", "2") | {f"1.{kind}": f"mrc.classes.{kind}" for kind in vilbert.PAIRS},
}


def batch() -> Batch:
    classes = torch.arange(C).expand(B, R, C)
    columns = {"prob_ids_BRK": classes, "prob_values_BRK": vilbert.class_shares()}
    regions = region_batch(numbers("features", B, R, W), torch.ones(B, R) > 0, vilbert.HIDDEN_REGIONS, **columns)
    words = word_batch(vilbert.word_ids(), torch.ones(B, T) > 0, vilbert.HIDDEN_WORDS)
    return batch_of(words, vilbert.MATCH, regions=regions)


@pytest.mark.parametrize(
    ("system", "wanted", "changes"),
    [
        ("vilbert", "objective 1", {}),
        ("vilbert", "objective 0", {"matched_only": False}),  # the first code's
        ("interbert", "losses", {}),
    ],
)
def test_three_losses(system: str, wanted: str, changes: dict[str, Any]) -> None:
    """The originals count a match as 0, and ours as 1."""
    numbers_of: Numbers = expected(system)[wanted]
    given, table = vilbert.given(), nn.Parameter(numbers("table", V, H, scale=0.3))
    model, rows, found = Model(Widths(H, W, J), word_weight=table), batch(), {}
    weights: dict[str, Tensor] = {"table": table, **given}
    pooled = given["pooled words"] * given["pooled regions"]
    encoded = Encoded(given["words"], given["regions"][:, 1:], torch.ones(B, R) > 0, pooled)
    for name, part in recipes.load(system).objectives.items():
        head = part.module.head(part.settings, model, SHAPES)
        filled = fill(head, NAMES[name])
        weights |= filled
        settings = replace(part.settings, **changes) if name != "itm" else part.settings
        loss = part.module.loss(model, encoded, head if name != "itm" else Flipped(head), rows, settings).loss
        found[name] = part.weight * loss
    agree({name: float(loss.detach()) for name, loss in found.items()}, numbers_of["each"])
    agree(measured(torch.stack(list(found.values())).sum(), weights), numbers_of["all"])


class Flipped(nn.Linear):
    """The layer with its two answers exchanged."""

    def __init__(self, layer: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.layer = layer

    def forward(self, input: Tensor) -> Tensor:
        found: Tensor = self.layer(input)
        return found.flip(-1)


def test_vilbert_hides_as_many_words_and_regions() -> None:
    wanted, objectives = expected("vilbert"), recipes.load("vilbert").objectives
    rates.words_alike(wanted["hidden words"], **rates.of(objectives["mlm"].settings))
    masking: Any = objectives["mrc"].settings
    rates.regions_alike(wanted["hidden regions"], masking.masking)


def test_interberts_span_hides_as_many_words() -> None:
    rates.words_alike(expected("interbert")["hidden words"], by="span", probability=0.1, some=False)


def test_interberts_overlapping_regions_are_hidden_together() -> None:
    """At the code's share of 0.1, a pixel is added to each side there, which changes no pair here."""
    masking = replace(recipes.load("interbert").objectives["mrc"].settings.masking, probability=0.1)
    count, places = rates.OURS, interbert.boxes()
    columns = {"boxes_R7": np.tile(seven(places.astype(np.float32), 1, 1), (count, 1))}
    regions = RegionColumns([len(places)] * count, [np.zeros((len(places), 1), np.float16)] * count, columns)
    hidden = mask_regions(regions, masking, [np.random.default_rng(0)] * count).columns["masked_R"]
    found = hidden.reshape(count, -1).mean(axis=0)
    error = (found * (1 - found) * (1 / count + 1 / rates.CAPTIONS)) ** 0.5
    assert (abs(found - expected("interbert")["hidden regions"]["each"]) < 4 * error).all()


def test_bert_adam_takes_the_same_steps() -> None:
    wanted, given = expected("interbert")["bert_adam"], interbert.weights()
    groups = [{"params": given, "weight_decay": interbert.DECAY}]
    optimiser = BertAdam(groups, lr=interbert.LR, betas=interbert.BETAS, eps=interbert.EPS)
    found = {}
    for step in range(interbert.STEPS):
        for weight, gradient in zip(given, interbert.gradients(step), strict=True):
            weight.grad = gradient
        done, rising = step / interbert.STEPS, interbert.RISING
        optimiser.param_groups[0]["lr"] = interbert.LR * (done / rising if done < rising else (1 - done) / (1 - rising))
        optimiser.step()
        found[str(step)] = [float(weight.detach().norm()) for weight in given]
    agree({"norms": found, "last": given[1].tolist()}, wanted)
