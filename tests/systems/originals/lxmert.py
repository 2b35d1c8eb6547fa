"""LXMERT (arXiv:1908.07490): the sum of its six losses, and which words and regions it hides.

Inputs are what the encoder is taken to give. The encoder is transformers' own, which is compared elsewhere.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tests.systems.originals import rates
from tests.systems.originals.drawn import Numbers, fill, leaf, measured, numbers, transform_names, whole
from tests.systems.originals.taking import Originals

REPOSITORY, COMMIT = "airsplay/lxmert", "030e64f487ff83843168053069cfecb09d8f28de"
B, T, R, H, D, C, K, V, A = 3, 5, 4, 12, 6, 7, 3, 20, 6  # K attributes, A answers
HIDDEN_WORDS = torch.tensor([[0, 1, 0, 1, 0], [0, 0, 1, 0, 0], [0, 0, 0, 0, 0]], dtype=torch.bool)
HIDDEN_REGIONS = torch.tensor([[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 0, 0]], dtype=torch.bool)
MATCH = torch.tensor([True, False, True])
ANSWERS = torch.tensor([4, -1, 2])  # -1: no question is asked
LOSSES = ("mlm", "itm", "mrc", "attributes", "mrfr", "qa")
HEADS = (
    transform_names("predictions.transform.", "mlm")
    | {"predictions.bias": "mlm.bias", "predictions.decoder.weight": "table"}
    | {f"seq_relationship.{kind}": f"itm.{kind}" for kind in ("weight", "bias")}
)
OBJECTS = transform_names("transform.", "objects") | {
    f"decoder_dict.{theirs}.{kind}": f"{ours}.{kind}"
    for theirs, ours in (("obj", "mrc"), ("attr", "attributes"), ("feat", "mrfr"))
    for kind in ("weight", "bias")
}
QA = transform_names("logit_fc.", "qa", "0", "2") | {f"logit_fc.3.{kind}": f"qa.{kind}" for kind in ("weight", "bias")}


def given() -> dict[str, Tensor]:
    return {"words": leaf("words", B, T, H), "regions": leaf("regions", B, R, H), "pooled": leaf("pooled", B, H)}


def regions() -> dict[str, Tensor]:
    """Features, classes and attributes with the detector's confidence."""
    return {
        "features": numbers("features", B, R, D),
        "classes": whole("classes", C, B, R), "class_scores": numbers("class scores", B, R).sigmoid(),
        "attributes": whole("attributes", K, B, R), "attribute_scores": numbers("attribute scores", B, R).sigmoid(),
    }  # fmt: skip


def word_ids() -> Tensor:
    return whole("word ids", V, B, T)


def run(folder: Path) -> tuple[Any, Numbers]:
    original = Originals(folder, REPOSITORY, COMMIT)
    original.put(BertLayerNorm=nn.LayerNorm, SmoothL1Loss=nn.SmoothL1Loss, sys=sys)
    original.take("src/lxrt/modeling.py", "gelu", "GeLU", "VisualConfig", "VisualFeatEncoder",
                  "BertPredictionHeadTransform", "BertLMPredictionHead", "BertVisualAnswerHead", "BertVisualObjHead",
                  "BertPreTrainingHeads", "LXRTPretraining.forward")  # fmt: skip
    original.put(ACT2FN={"gelu": original.gelu}, VISUAL_CONFIG=small(original.VisualConfig()))
    original.take(
        "src/pretrain/lxmert_pretrain.py", "random_word", "random_feat",
        commit="077c596843f36c7b2b404c533112750396d0e9f6",
    )  # fmt: skip
    elsewhere = SimpleNamespace(random_feat=lambda: np.full(2, 7.0))
    original.put(
        args=SimpleNamespace(word_mask_rate=0.15, obj_mask_rate=0.15), train_tuple=SimpleNamespace(torchdset=elsewhere)
    )
    found = losses(original) | {"entering": entering(original)}
    found |= {"hidden words": rates.tally(lambda length: hide_words(original, length)),
              "hidden regions": rates.tally(lambda length: hide_regions(original, length))}  # fmt: skip
    return original.facts(), found


def small(config: Any) -> Any:
    """The same losses and weights, with fewer classes and narrower features."""
    shapes = {"obj": (C, (-1,)), "attr": (K, (-1,)), "feat": (D, (-1, D))}
    old = config.visual_loss_config
    config.visual_loss_config = {
        name: (width, old[name][1], shape, old[name][3]) for name, (width, shape) in shapes.items()
    }
    config.set_visual_dims(D, 4)
    return config


def losses(original: Originals) -> Numbers:
    encoded, seen, table = given(), regions(), nn.Parameter(numbers("table", V, H))
    config = SimpleNamespace(hidden_size=H, hidden_act="gelu", vocab_size=V)
    heads = original.BertPreTrainingHeads(config, table)
    objects, answers = original.BertVisualObjHead(config, "obj,attr,feat"), original.BertVisualAnswerHead(config, A)
    weights = fill(heads, HEADS) | fill(objects, OBJECTS) | fill(answers, QA)
    own = SimpleNamespace(
        bert=lambda *_, **__: ((encoded["words"], encoded["regions"]), encoded["pooled"]), cls=heads,
        obj_predict_head=objects, answer_head=answers, task_qa=True, task_mask_lm=True, task_matched=True,
        task_obj_predict=True, config=config, num_answers=A,
    )  # fmt: skip
    labels = {
        "obj": (seen["classes"], seen["class_scores"]), "attr": (seen["attributes"], seen["attribute_scores"]),
        "feat": (seen["features"], HIDDEN_REGIONS.double()),
    }  # fmt: skip
    total, each, _ = original.forward(
        own, word_ids(), masked_lm_labels=torch.where(HIDDEN_WORDS, word_ids(), -1), obj_labels=labels,
        matched_label=MATCH.long(), ans=ANSWERS,
    )  # fmt: skip
    found = measured(total, weights | encoded)
    return {"each": dict(zip(LOSSES, each[0].tolist(), strict=True)), "all": found}


def entering(original: Originals) -> Numbers:
    """How a region enters."""
    encoder = original.VisualFeatEncoder(SimpleNamespace(hidden_size=H, hidden_dropout_prob=0.0))
    weights = fill(encoder, {name: f"entering.{name}" for name, _ in encoder.named_parameters()})
    entered = encoder((numbers("features", B, R, D), numbers("boxes", B, R, 4).sigmoid()))
    return measured((entered * numbers("asked", B, R, H)).sum(), weights)


def hide_words(original: Originals, length: int) -> tuple[list[bool], list[int]]:
    tokens, labels = original.random_word([str(rates.WORD)] * length, SimpleNamespace(vocab=rates.TOKENS))
    return [label != -1 for label in labels], rates.kinds_of(tokens)


def hide_regions(original: Originals, length: int) -> tuple[list[bool], list[int]]:
    shown, hidden = original.random_feat(np.ones((length, 2)))
    return hidden.astype(bool).tolist(), [{0.0: 1, 7.0: 2}.get(value, 0) for value in shown[:, 0].tolist()]
