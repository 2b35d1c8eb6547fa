"""UNITER: our losses, gradients and draws against the numbers of the original code."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from pairloom.loader.batch import Batch
from systems import recipes
from systems.objectives import itm, mlm, mrc, mrfr
from systems.objectives.alignment import alignment_distance
from systems.objectives.masking import RegionMasking
from tests.systems.originals import rates, uniter
from tests.systems.originals.drawn import agree, expected, fill, lengths, measured, numbers, transform_names
from tests.systems.originals.ours import Model, batch_of, encoded_of, region_batch, word_batch
from tests.systems.originals.uniter import B, C, D, H, R, T, V
from trainer.contract import Shapes, Widths

WANTED = expected("uniter")
SHAPES = Shapes(V, feature_width=D, num_classes=C)
SEEN_BT, SEEN_BR = lengths(uniter.WORDS, T), lengths(uniter.REGIONS, R)


def model(**tables: Any) -> Model:
    return Model(Widths(H, H, H), **tables)


def batch() -> Batch:
    words = word_batch(uniter.word_ids(), SEEN_BT, uniter.HIDDEN_WORDS)
    classes = torch.arange(C).expand(B, R, C)
    columns = {"prob_ids_BRK": classes, "prob_values_BRK": uniter.class_shares()}
    best = uniter.class_shares()[..., 1:].argmax(dim=-1) + 1  # the first class is the background's
    regions = region_batch(uniter.features(), SEEN_BR, uniter.HIDDEN_REGIONS, class_ids_BR=best, **columns)
    return batch_of(words, uniter.MATCH, regions=regions)


def test_mlm() -> None:
    given, table = uniter.given(), nn.Parameter(numbers("table", V, H, scale=0.3))
    settings = mlm.Settings()
    head = mlm.head(settings, model(word_weight=table), SHAPES)
    weights = fill(head, transform_names("transform.", "mlm", "0", "2") | {"bias_V": "mlm.bias"})
    loss = mlm.loss(model(word_weight=table), encoded_of(given, SEEN_BR), head, batch(), settings).loss
    agree(measured(loss, weights | {"table": table, "words": given["words"]}), WANTED["mlm"])


def test_mrfr() -> None:
    given, reading = uniter.given(), nn.Parameter(numbers("reading", H, D, scale=0.3))
    settings = mrfr.Settings(masking=RegionMasking(), tied=True)
    head = mrfr.head(settings, model(), SHAPES)
    weights = fill(head, transform_names("transform.", "mrfr", "0", "2") | {"bias_D": "mrfr.bias"})
    loss = mrfr.loss(model(feature_weight=reading), encoded_of(given, SEEN_BR), head, batch(), settings).loss
    agree(measured(loss, weights | {"reading": reading, "regions": given["regions"]}), WANTED["mrfr"])


@pytest.mark.parametrize(("targets", "name"), [("kl", "mrc"), ("hard", "mrc hard")])
def test_mrc(targets: Any, name: str) -> None:
    """The code's mean is over the classes too, ours sums over them as the paper does."""
    given, settings = uniter.given(), mrc.Settings(masking=RegionMasking(), targets=targets)
    head = mrc.head(settings, model(), SHAPES)
    weights = fill(head, transform_names("0.", "mrc", "0", "2") | uniter.class_names("1."))
    loss = mrc.loss(model(), encoded_of(given, SEEN_BR), head, batch(), settings).loss
    agree(measured(loss / (C if targets == "kl" else 1), weights | {"regions": given["regions"]}), WANTED[name])


def test_itm_with_alignment() -> None:
    given, settings = (
        uniter.given(),
        itm.Settings(negative_probability=0.5, replace="text", hard_share=0.0, alignment=uniter.ALIGNMENT),
    )
    head = itm.head(settings, model(), SHAPES)
    weights = fill(head, {"weight": "itm.weight", "bias": "itm.bias"})
    loss = itm.loss(model(), encoded_of(given, SEEN_BR), head, batch(), settings).loss
    agree(measured(loss, weights | given), WANTED["itm"], 1e-5)  # the original's distance is in float32


def test_the_distance_of_words_and_regions() -> None:
    given = uniter.given()
    found = alignment_distance(given["words"], given["regions"], SEEN_BT, SEEN_BR)
    leaves = {name: given[name] for name in ("words", "regions")}
    agree({"each": found.tolist(), **measured(found.sum(), leaves)}, WANTED["distance"], 1e-6)


def test_words_are_hidden_at_the_same_rates() -> None:
    """Where no word was drawn, the original masks the first. Ours draws one, which may be shown as it is."""
    settings: Any = recipes.load("uniter").objectives["mlm"].settings
    rates.words_alike(WANTED["hidden words"], ("hidden", "none"), **rates.of(settings))


def test_regions_are_hidden_at_the_same_rates() -> None:
    settings: Any = recipes.load("uniter").objectives["mrfr"].settings
    rates.regions_alike(WANTED["hidden regions"], settings.masking)
