"""LXMERT: the recipe's losses, gradients and draws against the numbers of the original code."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pairloom.loader.batch import Batch
from systems import recipes
from systems.models import cross_modal
from tests.systems.originals import lxmert, rates
from tests.systems.originals.drawn import agree, expected, fill, measured, numbers, transform_names
from tests.systems.originals.lxmert import A, B, C, D, H, K, R, T, V
from tests.systems.originals.ours import Model, batch_of, encoded_of, region_batch, word_batch
from trainer.contract import Shapes, Widths

WANTED = expected("lxmert")
SHAPES = Shapes(V, feature_width=D, num_classes=C, num_attributes=K, answers=tuple(map(str, range(A))))
NAMES = {
    "mlm": transform_names("transform.", "mlm", "0", "2") | {"bias_V": "mlm.bias"},
    "itm": {"weight": "itm.weight", "bias": "itm.bias"},
    "mrc": transform_names("0.", "objects", "0", "2") | {"1.weight": "mrc.weight", "1.bias": "mrc.bias"},
    "attributes": transform_names("0.", "objects", "0", "2")
    | {"1.weight": "attributes.weight", "1.bias": "attributes.bias"},
    "mrfr": transform_names("transform.", "objects", "0", "2")
    | {"predict.weight": "mrfr.weight", "bias_D": "mrfr.bias"},
    "qa": transform_names("", "qa", "0", "2") | {"3.weight": "qa.weight", "3.bias": "qa.bias"},
}

# Of the paper's last ten epochs is QA's: the code has 1 all the time.
WEIGHTS = {"mlm": 1.0, "itm": 1.0, "qa": 2.0, "mrc": 1 / 0.15, "attributes": 1 / 0.15, "mrfr": 1 / 0.15}


def batch() -> Batch:
    seen, all_BT, all_BR = lxmert.regions(), torch.ones(B, T) > 0, torch.ones(B, R) > 0
    columns = {f"class_{kind}_BR": seen[name] for kind, name in (("ids", "classes"), ("scores", "class_scores"))}
    columns |= {"attribute_ids_BR": seen["attributes"], "attribute_scores_BR": seen["attribute_scores"]}
    regions = region_batch(seen["features"], all_BR, lxmert.HIDDEN_REGIONS, **columns)
    words = word_batch(lxmert.word_ids(), all_BT, lxmert.HIDDEN_WORDS)
    ids = torch.where(lxmert.ANSWERS < 0, -100, lxmert.ANSWERS)[:, None]
    targets = {"answer_ids": ids, "answer_shares": (ids >= 0).double()}
    return batch_of(words, lxmert.MATCH, regions=regions, targets=targets)


def test_six_losses() -> None:
    """Their heads of objects share a layer. Here each has a copy of it, and the copies' gradients are added."""
    given, table = lxmert.given(), nn.Parameter(numbers("table", V, H, scale=0.3))
    model, rows = Model(Widths(H, H, H), word_weight=table), batch()
    found: dict[str, Tensor] = {}
    weights: dict[str, list[Tensor]] = {"table": [table], **{name: [one] for name, one in given.items()}}
    for name, part in recipes.load("lxmert").objectives.items():
        head = part.module.head(part.settings, model, SHAPES)
        for key, parameter in fill(head, NAMES[name]).items():
            weights.setdefault(key, []).append(parameter)
        loss = part.module.loss(model, encoded_of(given, torch.ones(B, R) > 0), head, rows, part.settings).loss
        assert part.weight == pytest.approx(WEIGHTS[name], rel=1e-3)  # the recipe rounds 1 / 0.15
        found[name] = loss * (1 if name == "qa" else WEIGHTS[name])
    agree({name: float(loss.detach()) for name, loss in found.items()}, WANTED["each"])
    agree(measured(torch.stack(list(found.values())).sum(), weights), WANTED["all"])


def test_a_region_enters_alike() -> None:
    settings: Any = replace(recipes.load("lxmert", "tiny").model.settings, hidden=H)
    encoder = cross_modal.build(settings, SHAPES).lxmert.encoder.visn_fc
    weights = fill(encoder, {name: f"entering.{name}" for name, _ in encoder.named_parameters()})
    entered = encoder(numbers("features", B, R, D), numbers("boxes", B, R, 4).sigmoid())
    agree(measured((entered * numbers("asked", B, R, H)).sum(), weights), WANTED["entering"])


def test_words_are_hidden_at_the_same_rates() -> None:
    rates.words_alike(WANTED["hidden words"], **rates.of(recipes.load("lxmert").objectives["mlm"].settings))


def test_regions_are_hidden_at_the_same_rates() -> None:
    settings: Any = recipes.load("lxmert").objectives["mrfr"].settings
    rates.regions_alike(WANTED["hidden regions"], settings.masking)
