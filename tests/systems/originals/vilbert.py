"""ViLBERT (arXiv:1908.02265) by the code of 12-in-1: its three losses, and which words and regions it hides.

Inputs are what the encoder is taken to give, for the encoder is compared elsewhere (test_published_regions.py).
InterBERT's code is a fork of it: interbert.py runs the same.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tests.systems.originals import rates
from tests.systems.originals.drawn import Numbers, fill, leaf, measured, numbers, shares, transform_names, whole
from tests.systems.originals.taking import Originals

REPOSITORY, COMMIT = "facebookresearch/vilbert-multi-task", "b2248bd9b7a0e118aa2b10f71d24e7bf10d9eaf0"
CLASS, FILE, DATA = "BertForMultiModalPreTraining", "vilbert/vilbert.py", "vilbert/datasets/concept_cap_dataset.py"
B, T, R, H, W, J, C, V = 4, 5, 4, 12, 8, 10, 7, 20  # W width of regions, J of both together
HIDDEN_WORDS = torch.tensor([[0, 1, 0, 1, 0], [0, 0, 1, 0, 0], [0, 0, 0, 0, 0], [0, 1, 1, 0, 0]], dtype=torch.bool)
HIDDEN_REGIONS = torch.tensor([[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 0, 0], [1, 1, 0, 0]], dtype=torch.bool)
MATCH = torch.tensor([True, False, True, True])
LOSSES = ("mlm", "mrc", "itm")
PAIRS = ("weight", "bias")
HEADS = (
    transform_names("predictions.transform.", "mlm")
    | {"predictions.bias": "mlm.bias", "predictions.decoder.weight": "table"}
    | {f"bi_seq_relationship.{kind}": f"itm.{kind}" for kind in PAIRS}
    | transform_names("imagePredictions.transform.", "mrc")
    | {f"imagePredictions.decoder.{kind}": f"mrc.classes.{kind}" for kind in PAIRS}
)


def given() -> dict[str, Tensor]:
    """The image as a whole is the first of the regions."""
    streams = {"words": leaf("words", B, T, H), "regions": leaf("regions", B, 1 + R, W)}
    return streams | {f"pooled {one}": leaf(f"pooled {one}", B, J) for one in ("words", "regions")}


def word_ids() -> Tensor:
    return whole("word ids", V, B, T)


def class_shares() -> Tensor:
    return shares("classes", B, R, C)


def run(folder: Path) -> tuple[Any, Numbers]:
    original = Originals(folder, REPOSITORY, COMMIT)
    heads_of(original, FILE, CLASS, commit="0023cff536033d3ccb3d450687bf360f5a607cfe")
    names = ("BertPreprocessBatch.random_word", "BertPreprocessBatch.random_region")
    original.take(DATA, *names, commit="afd3d8523dd71aec86474cb376c3b0cffdfc70ab")
    found: Numbers = {"objective 0": losses(original), "objective 1": losses(original, matched_only=True)}
    found |= {"hidden words": rates.tally(lambda length: hide_words(original, length)),
              "hidden regions": rates.tally(lambda length: hide_regions(original, length))}  # fmt: skip
    return original.facts(), found


def heads_of(original: Originals, file: str, name: str, commit: str | None = None) -> None:
    """commit: at which the heads were read, where that is not the losses'."""
    original.put(BertLayerNorm=nn.LayerNorm, sys=sys, ACT2FN={"gelu": nn.functional.gelu})
    parts = ("PredictionHeadTransform", "ImgPredictionHeadTransform", "LMPredictionHead", "PreTrainingHeads",
             "ImagePredictionHead")  # fmt: skip
    original.take(file, *(f"Bert{part}" for part in parts), commit=commit)
    original.take(file, f"{name}.forward")


def losses(original: Originals, matched_only: bool = False) -> Numbers:
    """matched_only: labels as train_concap.py leaves them with `--objective 1`."""
    encoded, table = given(), nn.Parameter(numbers("table", V, H))
    config = SimpleNamespace(hidden_size=H, v_hidden_size=W, bi_hidden_size=J, v_target_size=C, vocab_size=V,
                             hidden_act="gelu", v_hidden_act="gelu", fusion_method="mul")  # fmt: skip
    heads = original.BertPreTrainingHeads(config, table).eval()
    weights = fill(heads, HEADS)
    streams = [encoded[name] for name in ("words", "regions", "pooled words", "pooled regions")]
    own = SimpleNamespace(
        bert=lambda *_, **__: (*streams, None), cls=heads, predict_feature=False, config=config,
        vis_criterion=nn.KLDivLoss(reduction="none"), loss_fct=nn.CrossEntropyLoss(ignore_index=-1),
    )  # fmt: skip
    counted = MATCH[:, None] if matched_only else torch.ones(B, 1, dtype=torch.bool)
    each = original.forward(
        own, word_ids(), None, None, masked_lm_labels=torch.where(HIDDEN_WORDS & counted, word_ids(), -1),
        image_label=torch.where(HIDDEN_REGIONS & counted, 1, -1), image_target=class_shares(),
        next_sentence_label=(~MATCH).long(),
    )  # fmt: skip
    return {"each": named(each), "all": measured(torch.cat(each).sum(), weights | encoded)}


def named(each: tuple[Tensor, ...]) -> Mapping[str, float]:
    return {name: float(loss.detach()) for name, loss in zip(LOSSES, each, strict=True)}


class Tokenizer:
    mask_token = "[MASK]"

    def convert_tokens_to_ids(self, token: str) -> int:
        return rates.TOKENS[token]

    def __len__(self) -> int:
        return rates.WORD  # so that a word's replacement is another word


def hide_words(original: Originals, length: int) -> tuple[list[bool], list[int]]:
    own = SimpleNamespace(visualization=False)
    tokens, labels = original.random_word(own, [rates.WORD] * length, Tokenizer(), 0)
    return [label != -1 for label in labels], rates.kinds_of(tokens)


def hide_regions(original: Originals, length: int) -> tuple[list[bool], list[int]]:
    own, apart = SimpleNamespace(visualization=False), np.eye(length)
    shown, _, labels, _ = original.random_region(own, np.ones((length, 2)), None, length, 0, apart)
    return [label == 1 for label in labels], [int(value == 0) for value in shown[:, 0]]
