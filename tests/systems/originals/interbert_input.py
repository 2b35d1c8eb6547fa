"""InterBERT's input: how words, regions and the whole image enter. Some regions are hidden, some places empty."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tests.systems.originals import vilbert_input
from tests.systems.originals.drawn import Numbers, lengths, numbers
from tests.systems.originals.taking import Originals
from tests.systems.originals.vilbert_input import B, H, R, T

REPOSITORY, COMMIT = "black4321/InterBERT", "7ccabb1251292943fb7d6e5e75af8892ae335fe7"
D = 6
REGIONS = [4, 2, 3]
HIDDEN = torch.tensor([[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 0, 0]], dtype=torch.bool)


def features() -> Tensor:
    """(B, R, D) float32."""
    return numbers("features", B, R, D).float()


def seen() -> Tensor:
    return lengths(REGIONS, R)


def run(folder: Path) -> tuple[Any, Numbers]:
    """The loader is given what it reads: hidden features and empty places are zero."""
    original = Originals(folder, REPOSITORY, COMMIT)
    original.put(BertLayerNorm=nn.LayerNorm)
    original.take("bertmodel/modules.py", "BertEmbeddings", "BertImageEmbeddings")
    original.take("bertmodel/datasets/concept_cap_dataset.py", "ConceptCapLoaderTrain.__iter__")
    boxes, nothing = vilbert_input.boxes(), np.zeros(1)
    width, height = vilbert_input.WIDTH, vilbert_input.HEIGHT
    shares = boxes / torch.tensor([width, height] * 2)
    area = (shares[..., 2] - shares[..., 0]) * (shares[..., 3] - shares[..., 1])
    places = torch.cat([shares, area[..., None]], dim=-1)
    shown = torch.where((HIDDEN | ~seen())[..., None], 0, features())
    rows = [
        (vilbert_input.captions()[row].numpy(), np.ones(T), np.zeros(T, int), nothing, nothing, shown[row].numpy(),
         places[row].numpy(), nothing, nothing, seen()[row].numpy().astype(int), seen()[row].numpy(), nothing)
        for row in range(B)
    ]  # fmt: skip
    return original.facts(), vilbert_input.entering(original, rows, H)
