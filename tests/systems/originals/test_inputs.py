"""How words, regions and patches enter UNITER, ViLBERT, InterBERT, UNIMO and ViLT, by the numbers of the original code.

Models are the recipes' with fewer numbers and no layers, so that what comes out is what entered.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pairloom.loader.batch import RegionBatch
from systems import recipes
from systems.models.single_stream import embedded_words
from systems.units import regions as units
from tests.systems.originals import interbert_input, unimo_input, uniter_input, vilbert_input, vilt_input
from tests.systems.originals.drawn import agree, expected, fill, lengths, measured, numbers
from tests.systems.originals.ours import batch_of, region_batch, word_batch
from trainer.contract import Shapes

PAIR = ("weight", "bias")
NORMS = {f"{part}_norm.{kind}": f"{part} norm {kind}" for part in ("feature", "place") for kind in PAIR}
REGIONS = {f"{part}.{kind}": f"{part} {kind}" for part in ("feature", "place", "norm") for kind in PAIR}


def model_of(recipe: str, kind: str, shapes: Shapes, **settings: Any) -> Any:
    overrides = {"model": {kind: {"dropout": 0.0} | settings}}
    part = recipes.load(recipe, overrides=overrides).model
    return part.module.build(part.settings, shapes).double()


def filled(module: nn.Module, names: dict[str, str], hidden_D: Tensor | None = None) -> dict[str, Tensor]:
    """As `fill`, but what stands for a hidden feature is given."""
    own: Any = module
    value = torch.zeros_like(own.hidden_D) if hidden_D is None else hidden_D
    weights = fill(module, names | {"hidden_D": "hidden"})
    with torch.no_grad():
        own.hidden_D.copy_(value)
    return {name: weight for name, weight in weights.items() if name != "hidden"}


def regions_at(boxes: Tensor, size: tuple[int, int], *given: Tensor) -> RegionBatch:
    """given: features, which are there, which are hidden. boxes in pixels."""
    batch = region_batch(*given)
    batch.boxes_BR7.copy_(torch.from_numpy(np.stack([units.seven(row.numpy(), *size) for row in boxes])))
    return batch


def test_uniters_words_and_regions() -> None:
    """Boxes are float32 here. The original packs words and regions, which changes no number."""
    o = uniter_input
    shapes = Shapes(o.V, feature_width=o.D)
    model = model_of("uniter", "single_stream", shapes, hidden=o.H, layers=0, max_tokens=o.PLACES)
    weights = fill(model.bert.embeddings, o.WORD_NAMES)
    weights |= filled(model.regions, REGIONS | NORMS, numbers("hidden", 2, o.D, scale=0.3)[1])
    seen_BT, seen_BR = lengths(o.WORDS, o.T), lengths(o.REGIONS, o.R)
    regions = regions_at(o.boxes(), o.SIZE, o.features(), seen_BR, o.HIDDEN)
    found = model(batch_of(word_batch(o.word_ids(), seen_BT), regions=regions))
    asked = o.asked()
    total = (found.words_BTH * asked["words"])[seen_BT].sum() + (found.units_BUH * asked["regions"])[seen_BR].sum()
    agree(measured(total, weights), expected("uniter_input")["entering"], 1e-6)


def test_uniter_takes_as_many_regions() -> None:
    scores = np.array(uniter_input.CONFIDENCES, np.float32)
    most, least, above = (uniter_input.CHOSEN[name] for name in ("max_bb", "min_bb", "conf_th"))
    settings = units.Settings(max_regions=int(most), min_regions=int(least), min_score=float(np.float32(above)))
    counts = units.how_many(scores.flatten(), np.array([scores.shape[1]] * len(scores)), settings)
    assert counts.tolist() == expected("uniter_input")["regions taken"]


@pytest.mark.parametrize("recipe", ["vilbert", "interbert"])
def test_words_regions_and_the_whole_image(recipe: str) -> None:
    """InterBERT's mean is over the places that are taken, and a hidden region counts as zero."""
    o = vilbert_input
    if recipe == "vilbert":
        seen_BR = torch.ones(o.B, o.R) > 0
        features, hidden_BR = o.features(), ~seen_BR
        stream = {"hidden": o.W, "layers": 0, "heads": 1, "feed_forward": o.W}
        words = {"hidden": o.H, "layers": 0, "heads": 1, "feed_forward": o.H}
        given = {"words": words, "regions": stream, "co_layers": 0, "joint": o.W, "max_tokens": o.PLACES}
        model = model_of("vilbert", "two_stream", Shapes(o.V, feature_width=o.D), **given)
    else:
        seen_BR, hidden_BR = interbert_input.seen(), interbert_input.HIDDEN
        features = interbert_input.features() * seen_BR[..., None]
        alone = {part: {"layers": 0, "heads": 1} for part in ("words_alone", "regions_alone")}
        shapes, places = Shapes(o.V, feature_width=interbert_input.D), o.PLACES
        model = model_of("interbert", "interaction", shapes, hidden=o.H, layers=0, max_tokens=places, **alone)
    weights = fill(model.embeddings, o.WORD_NAMES) | filled(model.regions, REGIONS)
    batch = word_batch(o.captions(), torch.ones(o.B, o.T) > 0)
    entered = model.regions(regions_at(o.boxes(), (o.WIDTH, o.HEIGHT), features, seen_BR, hidden_BR))
    total = (embedded_words(model.embeddings, batch) * o.asked()["words"]).sum()
    total = total + (entered * numbers("asked regions", *entered.shape)).sum()
    agree(measured(total, weights), expected(f"{recipe}_input"), 1e-5)


def test_unimos_words_regions_and_the_whole_image() -> None:
    """RoBERTa has no types of tokens, and its norms add 1e-5 to the variance."""
    o = unimo_input
    shapes = Shapes(o.V, feature_width=o.D)
    model = model_of("unimo", "single_stream", shapes, hidden=o.H, layers=0, max_tokens=o.PLACES)
    norms = {f"LayerNorm.{kind}": f"pre_encoder {kind}" for kind in PAIR}
    tables = {f"{one}_embeddings.weight": f"{one} table" for one in ("word", "position", "token_type")}
    weights = fill(model.bert.embeddings, tables | norms)
    nn.init.zeros_(weights.pop("token_type table"))
    parts = (("feature", "image_emb"), ("place", "image_loc"))
    layers = {f"{ours}.{kind}": f"{theirs}.{kind[0]}_0" for ours, theirs in parts for kind in PAIR}
    weights |= filled(model.regions, layers | {f"norm.{kind}": f"v_pre_encoder {kind}" for kind in PAIR})
    all_BR = torch.ones(o.B, o.R) > 0
    regions = replace(region_batch(o.features(), all_BR, ~all_BR), boxes_BR7=o.boxes())
    total = (model.regions(regions) * numbers("asked regions", o.B, 1 + o.R, o.H)).sum()
    words = embedded_words(model.bert.embeddings, word_batch(o.word_ids(), torch.ones(o.B, o.T) > 0))
    total = total + (words * numbers("asked words", o.B, o.T, o.H)).sum()
    agree(measured(total, weights), expected("unimo_input"))


def test_vilts_words_and_patches() -> None:
    """Pictures of three shapes, filled up to the largest, whose positions are interpolated.

    The authors' norm adds 1e-6 to the variance, as it does here. transformers', and so the recipe's, adds 1e-12.
    """
    o = vilt_input
    given = {"hidden": o.H, "layers": 0, "heads": 1, "patch": o.PATCH, "image_size": o.SIDE, "max_tokens": o.PLACES}
    model = model_of("vilt", "vilt", Shapes(o.V), **given)
    model.vilt.layernorm.eps = 1e-6
    patches, embeddings = model.vilt.embeddings, model.vilt.embeddings.text_embeddings
    weights = fill(embeddings, o.WORD_NAMES)
    for module, name in ((patches.patch_embeddings.projection, "patch"), (model.vilt.layernorm, "norm")):
        weights |= fill(module, {kind: f"{name} {kind}" for kind in PAIR})
    weights |= fill(patches.token_type_embeddings, {"weight": "kinds"})
    for name, own in (("class", patches.cls_token), ("places", patches.position_embeddings)):
        weights[name] = own
        with torch.no_grad():
            own.copy_(numbers(name, *own.shape, scale=0.3))
    words = word_batch(o.word_ids(), torch.ones(o.B, o.T) > 0)
    seen = patches(words.input_ids_BT, words.attention_mask_BT.long(), None, o.pixels(), o.mask().long(), None, None)
    joint = model.vilt.layernorm(seen[0])
    found = model(batch_of(words, pixels_B3SS=o.pixels(), pixel_mask_BSS=o.mask()))
    torch.testing.assert_close(found.words_BTH, joint[:, : o.T])
    total = o.read(joint[:, : o.T], joint[:, o.T :], seen[1][:, o.T :])
    agree(measured(total, weights), expected("vilt_input"))
