"""ViLBERT's input by the code of 12-in-1: how words, regions and the whole image enter. Nothing is hidden.

Its loader is run from boxes in pixels on. All images have all regions: else its mean counts the places left empty.
"""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tests.systems.originals.drawn import Numbers, fill, measured, numbers, whole
from tests.systems.originals.taking import Originals

REPOSITORY, COMMIT = "facebookresearch/vilbert-multi-task", "0023cff536033d3ccb3d450687bf360f5a607cfe"
DATA, READ_AT = "vilbert/datasets/concept_cap_dataset.py", "afd3d8523dd71aec86474cb376c3b0cffdfc70ab"
B, T, R, H, W, V, PLACES, D, CLASSES = 3, 5, 4, 12, 8, 20, 8, 2048, 1601  # the last two are written in its code
WIDTH, HEIGHT, START, END = 640, 480, 1, 2
WORD_NAMES = {f"{one}_embeddings.weight": f"{one} table" for one in ("word", "position", "token_type")} | {
    f"LayerNorm.{kind}": f"words norm {kind}" for kind in ("weight", "bias")
}
PAIRS = {"image_embeddings": "feature", "image_location_embeddings": "place", "LayerNorm": "norm"}
REGION_NAMES = {f"{theirs}.{kind}": f"{ours} {kind}" for theirs, ours in PAIRS.items() for kind in ("weight", "bias")}


def captions() -> Tensor:
    """(B, T) with start and end."""
    ids = whole("word ids", V - 3, B, T) + 3
    ids[:, 0], ids[:, -1] = START, END
    return ids


def features() -> Tensor:
    return numbers("features", B, R, D).float()


def boxes() -> Tensor:
    """(B, R, 4) float32, x1 y1 x2 y2 in pixels."""
    corners = numbers("corners", B, R, 4).sigmoid()
    ends = corners[..., :2] + (1 - corners[..., :2]) * corners[..., 2:]
    return (torch.cat([corners[..., :2], ends], dim=-1) * torch.tensor([WIDTH, HEIGHT] * 2)).float()


def asked() -> dict[str, Tensor]:
    """The whole image is the first of the regions."""
    return {"words": numbers("asked words", B, T, H), "regions": numbers("asked regions", B, 1 + R, W)}


class Tokenizer:
    """Captions are tokens already."""

    def encode(self, caption: list[int]) -> list[int]:
        return list(caption)

    def add_special_tokens_single_sentence(self, tokens: list[int]) -> list[int]:
        return [START, *tokens, END]


def run(folder: Path) -> tuple[Any, Numbers]:
    original = Originals(folder, REPOSITORY, COMMIT)
    original.put(BertLayerNorm=nn.LayerNorm, copy=copy)
    original.take("vilbert/vilbert.py", "BertEmbeddings", "BertImageEmbeddings")
    names = ("__call__", "random_cap", "convert_example_to_features", "_truncate_seq_pair", "random_word",
             "random_region")  # fmt: skip
    original.take(DATA, "iou", "InputExample", "InputFeatures", "ConceptCapLoaderTrain.__iter__",
                  *(f"BertPreprocessBatch.{name}" for name in names), commit=READ_AT)  # fmt: skip
    own = SimpleNamespace(region_len=R, seq_len=T, visual_target=0, visualization=True, objective=0,
                          tokenizer=Tokenizer())  # fmt: skip
    for name in names[1:]:
        method = original.scope[name]
        setattr(own, name, lambda *given, method=method: method(own, *given))
    given = zip(captions().tolist(), features().numpy(), boxes().numpy(), strict=True)
    rows = [
        original.scope["__call__"](own, (feature, np.zeros((R, CLASSES)), box, R, HEIGHT, WIDTH, row, ids[1:-1]))
        for row, (ids, feature, box) in enumerate(given)
    ]
    return original.facts(), entering(original, rows, W)


def entering(original: Originals, rows: list[tuple[Any, ...]], width: int) -> Numbers:
    """rows: as the original makes them ready, which its loader puts together."""
    together = tuple(np.stack(column) for column in zip(*rows, strict=True))
    loader = SimpleNamespace(ds=SimpleNamespace(get_data=lambda: [together]), cond_mask=False)
    ids, _, segments, _, _, shown, places = next(original.scope["__iter__"](loader))[:7]
    config = SimpleNamespace(vocab_size=V, hidden_size=H, max_position_embeddings=PLACES, type_vocab_size=2,
                             hidden_dropout_prob=0.0, v_hidden_size=width, v_feature_size=shown.shape[-1])  # fmt: skip
    words, regions = original.BertEmbeddings(config), original.BertImageEmbeddings(config)
    weights = fill(words, WORD_NAMES) | fill(regions, REGION_NAMES)
    entered = {"words": words(ids, segments), "regions": regions(shown.double(), places.double())}
    wanted = {"words": asked()["words"], "regions": numbers("asked regions", *entered["regions"].shape)}
    total = torch.stack([(entered[name] * wanted[name]).sum() for name in entered]).sum()
    return measured(total, weights)
