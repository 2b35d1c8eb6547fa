"""UNITER (arXiv:1909.11740): its four losses, and which words and regions it hides.

Inputs are what the encoder is taken to give, for the encoder is compared elsewhere (test_published_regions.py).
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from tests.systems.originals import rates
from tests.systems.originals.drawn import (
    Numbers,
    fill,
    leaf,
    lengths,
    measured,
    numbers,
    shares,
    transform_names,
    whole,
)
from tests.systems.originals.taking import Originals

REPOSITORY, COMMIT = "ChenRocks/UNITER", "966a5f8ed4afcf70c4da076efaef97009affa057"
B, T, R, H, D, C, V = 3, 5, 4, 12, 6, 7, 20
WORDS, REGIONS = [5, 3, 4], [4, 2, 3]  # of each row, the rest is padding
HIDDEN_WORDS = torch.tensor([[0, 1, 0, 1, 0], [0, 0, 1, 0, 0], [0, 0, 0, 0, 0]], dtype=torch.bool)
HIDDEN_REGIONS = torch.tensor([[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 1, 0]], dtype=torch.bool)
MATCH = torch.tensor([True, False, True])
ALIGNMENT = 0.1


def given() -> dict[str, Tensor]:
    """What the encoder gives, with gradients."""
    return {"words": leaf("words", B, T, H), "regions": leaf("regions", B, R, H), "pooled": leaf("pooled", B, H)}


def word_ids() -> Tensor:
    return whole("word ids", V, B, T)


def features() -> Tensor:
    return numbers("features", B, R, D)


def class_shares() -> Tensor:
    return shares("classes", B, R, C)


def run(folder: Path) -> tuple[Any, Numbers]:
    """The original's facts, and its losses with their gradients."""
    original = Originals(folder, REPOSITORY, COMMIT)
    original.put(LayerNorm=nn.LayerNorm, BertLayerNorm=nn.LayerNorm)
    original.take("model/layer.py", "gelu", "GELU", "BertPredictionHeadTransform", "BertLMPredictionHead",
                  "BertOnlyMLMHead")  # fmt: skip
    original.put(ACT2FN={"gelu": original.gelu})
    original.take("model/pretrain.py", "RegionFeatureRegression", "RegionClassification",
                  *(f"UniterForPretraining.{name}" for name in ("forward_mlm", "_compute_masked_hidden",
                                                                "forward_mrfr", "forward_itm", "forward_mrc")),
                  )  # fmt: skip
    original.take("model/ot.py", "cost_matrix_cosine", "trace", "ipot", "optimal_transport_dist")
    original.take("data/mlm.py", "random_word")
    original.take("data/mrm.py", "_get_img_mask", commit="a6d578ae787bd69f16def654cfe5890560c554e9")
    original.take("data/itm.py", "_compute_ot_scatter", "_compute_pad")
    found = {"mlm": mlm(original), "mrfr": mrfr(original), "mrc": mrc(original), "mrc hard": mrc(original, "mrc"),
             "itm": itm(original), "distance": distance(original),
             "hidden words": rates.tally(lambda length: hide_words(original, length)),
             "hidden regions": rates.tally(lambda length: hide_regions(original, length))}  # fmt: skip
    return original.facts(), found


def encoder(original: Originals, encoded: dict[str, Tensor], **heads: Any) -> SimpleNamespace:
    """What the original's methods take for themselves: heads, and an encoder that gives what was drawn."""
    rows = []
    for row, (words, regions) in enumerate(zip(WORDS, REGIONS, strict=True)):
        packed = torch.cat([encoded["words"][row, :words], encoded["regions"][row, :regions]])
        rows.append(nn.functional.pad(packed, (0, 0, 0, max(map(sum, zip(WORDS, REGIONS, strict=True))) - len(packed))))
    sequence = torch.stack(rows)
    uniter = Encoder(sequence, encoded["pooled"])
    masked = lambda hidden, mask: original._compute_masked_hidden(None, hidden, mask)  # noqa: E731
    config = SimpleNamespace(hidden_size=H)
    return SimpleNamespace(uniter=uniter, config=config, _compute_masked_hidden=masked, **heads)


class Encoder:
    def __init__(self, sequence: Tensor, pooled: Tensor) -> None:
        self.sequence, self.pooled = sequence, pooled

    def __call__(self, *_: Any, **__: Any) -> Tensor:
        return self.sequence

    def pooler(self, _: Tensor) -> Tensor:
        return self.pooled


def packed_mask() -> Tensor:
    """The hidden regions' places behind each row's words."""
    most = max(map(sum, zip(WORDS, REGIONS, strict=True)))
    mask = torch.zeros(B, most, dtype=torch.bool)
    for row, (words, regions) in enumerate(zip(WORDS, REGIONS, strict=True)):
        mask[row, words : words + regions] = HIDDEN_REGIONS[row, :regions]
    return mask


def mlm(original: Originals) -> Numbers:
    encoded, table = given(), nn.Parameter(numbers("table", V, H, scale=0.3))
    head = original.BertOnlyMLMHead(SimpleNamespace(hidden_size=H, hidden_act="gelu"), table)
    names = transform_names("predictions.transform.", "mlm") | {"predictions.bias": "mlm.bias"}
    weights = fill(head, names | {"predictions.decoder.weight": "table"})
    own = encoder(original, encoded, cls=head)
    labels = torch.where(HIDDEN_WORDS, word_ids(), -1)
    losses = original.forward_mlm(own, word_ids(), None, None, None, None, None, labels)
    return measured(losses.mean(), weights | {"words": encoded["words"]})


def mrfr(original: Originals) -> Numbers:
    encoded, reading = given(), nn.Parameter(numbers("reading", H, D, scale=0.3))
    head = original.RegionFeatureRegression(H, D, reading)
    names = transform_names("net.", "mrfr", "0", "2") | {"weight": "reading", "bias": "mrfr.bias"}
    weights = fill(head, names)
    own, mask = encoder(original, encoded, feat_regress=head), packed_mask()
    target = features()[HIDDEN_REGIONS]
    losses = original.forward_mrfr(own, None, None, None, None, None, None, None, mask, target)
    return measured(losses.mean(), weights | {"regions": encoded["regions"]})


def mrc(original: Originals, task: str = "mrckl") -> Numbers:
    encoded = given()
    head = original.RegionClassification(H, C)
    weights = fill(head, transform_names("net.", "mrc", "0", "2") | class_names("net.3."))
    own, mask = encoder(original, encoded, region_classifier=head), packed_mask()
    target = class_shares()[HIDDEN_REGIONS]
    losses = original.forward_mrc(own, None, None, None, None, None, None, None, mask, target, task)
    return measured(losses.mean(), weights | {"regions": encoded["regions"]})


def class_names(theirs: str) -> dict[str, str]:
    return {f"{theirs}{kind}": f"mrc.classes.{kind}" for kind in ("weight", "bias")}


def itm(original: Originals) -> Numbers:
    """As pretrain.py adds the two losses."""
    encoded, head = given(), nn.Linear(H, 2)
    weights = fill(head, {"weight": "itm.weight", "bias": "itm.bias"})
    own = encoder(original, encoded, itm_output=head)
    scatter = original._compute_ot_scatter(WORDS, T, own.uniter.sequence.shape[1])
    pads = {"txt_pad": original._compute_pad(WORDS, T), "img_pad": original._compute_pad(REGIONS, R)}
    inputs = {"ot_scatter": scatter, "scatter_max": scatter.max().item(), **pads}
    losses, (positive, negative) = original.forward_itm(
        own, word_ids(), None, features(), None, None, None, MATCH.long(), inputs
    )
    transport = (positive.sum() - negative.sum()) / (positive.size(0) + negative.size(0))
    given_ = {name: encoded[name] for name in ("words", "regions", "pooled")}
    return measured(losses.mean() + ALIGNMENT * transport, weights | given_)


def distance(original: Originals) -> Numbers:
    """Of words and regions, in float64: the original's loss computes it in float32."""
    encoded = given()
    padding = ~lengths(WORDS, T), ~lengths(REGIONS, R)
    found = original.optimal_transport_dist(encoded["words"], encoded["regions"], *padding)
    numbers_ = measured(found.sum(), {name: encoded[name] for name in ("words", "regions")})
    return {"each": found.tolist(), **numbers_}


def hide_words(original: Originals, length: int) -> tuple[list[bool], list[int]]:
    tokens, labels = original.random_word([rates.WORD] * length, (min(rates.OTHERS), max(rates.OTHERS) + 1), rates.MASK)
    return [label != -1 for label in labels], rates.kinds_of(tokens)


def hide_regions(original: Originals, length: int) -> tuple[list[bool], list[int]]:
    hidden = original._get_img_mask(0.15, length).tolist()
    return hidden, [int(one) for one in hidden]  # all that are drawn are masked
