"""FashionBERT and Kaleido-BERT: how crops enter, and Kaleido-BERT's losses, by the numbers of the original code."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from pairloom.loader.batch import HIDDEN, ITSELF, Batch, RegionBatch
from systems import recipes
from systems.objectives import mlm
from tests.systems.originals import fashionbert_input, kaleidobert, rates
from tests.systems.originals.drawn import agree, expected, fill, leaf, measured, numbers
from tests.systems.originals.ours import Model, batch_of, region_batch, word_batch
from trainer.contract import Encoded, Shapes, Widths

PAIR = ("weight", "bias")
MASKED = recipes.load("fashionbert").objectives["mlm"]


def crops_of(features: Tensor, hidden: Tensor, boxes_BR7: Tensor | None = None) -> RegionBatch:
    """Those at the places `hidden`, (B, K), are not seen."""
    all_BR = torch.ones(features.shape[:2]) > 0
    shown_BR = torch.full(all_BR.shape, ITSELF).scatter(1, hidden, HIDDEN)
    crops = region_batch(features, all_BR, ~all_BR, shown_BR=shown_BR)
    return crops if boxes_BR7 is None else replace(crops, boxes_BR7=boxes_BR7)


def embedding_of(recipe: str, width: int, **settings: Any) -> Any:
    part = recipes.load(recipe, overrides={"model": {"patch_stream": {"layers": 0} | settings}}).model
    return part.module.build(part.settings, Shapes(9, feature_width=width)).patches.double().eval()


def test_fashionberts_crops() -> None:
    o = fashionbert_input
    embedding = embedding_of("fashionbert", o.D, hidden=o.H, levels=[o.R])
    weights = fill(embedding, {
        "features.0.weight": "image_projector", "types.weight": "patch_type_embeddings",
        "place.weight": "patch_position_embeddings",
        **{f"norms.0.{kind}": f"ImageEmbLayerNorm.{kind}" for kind in PAIR},
    })  # fmt: skip
    part: Any = recipes.load("fashionbert").objectives["patch_kl"]
    head = part.module.head(part.settings, Model(Widths(o.H, o.H, o.H)), Shapes(9, feature_width=o.D))
    weights |= fill(head, {"weight": "output_weights"})
    entered, crops = embedding(crops_of(o.features(), o.HIDDEN)), o.encoded()
    rows = torch.arange(o.B)[:, None].expand_as(o.HIDDEN)
    predicted = head(crops[rows, o.HIDDEN].flatten(0, 1))
    total = sum((one * want).sum() for one, want in zip((entered, predicted), o.asked(), strict=True))
    assert isinstance(total, Tensor)
    agree(measured(total, weights | {"crops": crops}), expected("fashionbert_input")["crops"])


@pytest.mark.parametrize("pieces", [1, 3])
def test_fashionberts_words_are_hidden_by_their_number(pieces: int) -> None:
    wanted, settings = expected("fashionbert_input")["hidden words"][str(pieces)], MASKED.settings
    lengths = fashionbert_input.LENGTHS
    rates.words_alike(wanted, **rates.of(cast(mlm.Settings, settings)), lengths=lengths, pieces=pieces)


def test_kaleidoberts_crops() -> None:
    o = kaleidobert
    embedding = embedding_of("kaleidobert", o.D, hidden=o.H)
    names = {"types.weight": "types", "place.weight": "position_dense"}
    for number, level in enumerate(o.LEVELS):
        names[f"features.{number}.weight"] = f"{level}_projector"
        names |= {f"norms.{number}.{kind}": f"{level}EmbLayerNorm.{kind}" for kind in PAIR}
    weights = fill(embedding, names)
    crops = crops_of(o.features(), 30 + o.HIDDEN["blankmask"], o.boxes())
    found = (embedding(crops) * numbers("asked crops", o.B, o.R, o.H)).sum()
    agree(measured(found, weights), expected("kaleidobert")["entering"])


class Scores(nn.Module):
    """What is scored of hidden words, as drawn."""

    def __init__(self, scores: Tensor) -> None:
        super().__init__()
        self.scores = scores

    def forward(self, *_: Tensor) -> Tensor:
        return self.scores[kaleidobert.COUNTED > 0]


HEADS = {
    "itm": {kind: f"itm.{kind}" for kind in PAIR}, "grey": {"weight": "greymask_output_weights"},
    "blank": {"weight": "blanmask_output_weights"}, "aligned": {},
    "rotation": {"weight": "rotation_output_weights", "bias": "rotation_output_bias"},
    "jigsaw": {"weight": "jiasaw_output_weights", "bias": "jigsaw_output_bias"},
    "camouflage": {"weight": "camouflage_output_weights", "bias": "camouflage_output_bias"},
}  # fmt: skip


def kaleidos_batch() -> Batch:
    o = kaleidobert
    blank, rows = 30 + o.HIDDEN["blankmask"], torch.arange(o.B)[:, None]
    targets = o.PUZZLES | {
        "grey_places": 14 + o.HIDDEN["greymask"], "grey_features": o.colours(),
        "blank_places": blank, "blank_features": o.features()[rows, blank],
    }  # fmt: skip
    words = word_batch(o.word_ids(), torch.ones(o.B, o.T) > 0, o.HIDDEN_WORDS)
    return batch_of(words, o.MATCH, targets=targets)


def test_kaleidoberts_seven_losses() -> None:
    """The original divides by 1e-5 more than the hidden words, and cuts probabilities off at 1e-7."""
    o, given = kaleidobert, kaleidobert.given()
    all_BR = torch.ones(o.B, o.R) > 0
    encoded = Encoded(leaf("words", o.B, o.T, o.H), given["crops"], all_BR, given["pooled"])
    model, rows = Model(Widths(o.H, o.H, o.H)), kaleidos_batch()
    weights, losses = dict(given), []
    objectives = recipes.load("kaleidobert").objectives
    assert objectives.keys() == HEADS.keys()
    for name, part in objectives.items():
        head = part.module.head(part.settings, model, Shapes(o.V, feature_width=o.D))
        weights |= fill(head, HEADS[name]) if name != "aligned" else {}
        head = Scores(given["word scores"]) if name == "aligned" else head
        losses.append(part.weight * part.module.loss(model, encoded, head, rows, part.settings).loss)
    agree(measured(torch.stack(losses).sum(), weights), expected("kaleidobert")["losses"], 1e-5)
