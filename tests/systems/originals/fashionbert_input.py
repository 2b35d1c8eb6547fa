"""FashionBERT's input: how crops enter, of which some are hidden, and what is predicted of those."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from tests.systems.originals.drawn import Numbers, leaf, measured, numbers
from tests.systems.originals.in_torch import TF, Weights, easytransfer
from tests.systems.originals.taking import Originals

REPOSITORY, COMMIT = "alibaba/EasyTransfer", "1556e9f65b12188177c51c87ee56101e44b4ced0"
B, R, H, D = 2, 9, 12, 6
HIDDEN = torch.tensor([[0, 4], [8, 2]])
TURNED = {"image_projector", "output_weights"}  # the original multiplies by these from the right
MODEL = "ImageBertPreTrainedModel"


def features() -> Tensor:
    return numbers("crop features", B, R, D)


def encoded() -> Tensor:
    """What the encoder is taken to give of the crops."""
    return leaf("encoded crops", B, R, H)


def asked() -> tuple[Tensor, Tensor]:
    return numbers("asked crops", B, R, H), numbers("asked predictions", HIDDEN.numel(), D)


def run(folder: Path) -> tuple[Any, Numbers]:
    drawn = Weights(TURNED)
    original = Originals(folder, REPOSITORY, COMMIT)
    original.put(tf=TF, layers=easytransfer(drawn))
    original.take("easytransfer/model_zoo/modeling_imagebert.py", "ImageEmbeddings", "ImageBertMPMHead",
                  f"{MODEL}.mask_patch_features")  # fmt: skip
    config = SimpleNamespace(patch_feature_size=D, hidden_size=H, initializer_range=0.02, patch_type_vocab_size=2,
                             max_patch_position_embeddings=R, hidden_dropout_prob=0.1)  # fmt: skip
    shown = original.mask_patch_features(SimpleNamespace(config=config), features(), HIDDEN)
    entered = original.ImageEmbeddings(config)([shown, torch.ones(B, R)])
    crops = encoded()
    predicted = original.ImageBertMPMHead(config)(crops, HIDDEN)
    total = sum((one * want).sum() for one, want in zip((entered, predicted), asked(), strict=True))
    return original.facts(), measured(total, {**drawn, "crops": crops})
