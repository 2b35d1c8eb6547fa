"""ViLT (arXiv:2102.03334): matching with word-patch alignment."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from tests.systems.originals.drawn import Numbers, fill, leaf, lengths, measured
from tests.systems.originals.taking import Originals

REPOSITORY, COMMIT = "dandelin/ViLT", "71f671d7bca776c220057a95c6896e85a4252067"
B, T, U, H = 4, 6, 5, 12
WORDS, PATCHES = [6, 4, 5, 3], [5, 3, 4, 5]  # with start and end, and without the picture's class token


def given() -> dict[str, Tensor]:
    return {"words": leaf("words", B, T, H), "patches": leaf("patches", B, 1 + U, H), "pooled": leaf("pooled", B, H)}


class Module:
    """What the original asks of Lightning's module."""

    training, device = True, "cpu"
    hparams = SimpleNamespace(config={"vit": "vit_base_patch32_384"})

    def __init__(self, encoded: dict[str, Tensor], head: nn.Module) -> None:
        self.encoded, self.itm_score = encoded, head

    def infer(self, *_: Any, **__: Any) -> dict[str, Tensor]:
        seen = nn.functional.pad(lengths(PATCHES, U), (1, 0), value=True)
        return {"text_feats": self.encoded["words"], "image_feats": self.encoded["patches"],
                "text_masks": lengths(WORDS, T), "image_masks": seen, "cls_feats": self.encoded["pooled"]}  # fmt: skip

    def log(self, *_: Any) -> None:
        """Nothing."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None  # meters


def run(folder: Path) -> tuple[Any, Numbers]:
    original = Originals(folder, REPOSITORY, COMMIT)
    original.take("vilt/modules/objectives.py", "cost_matrix_cosine", "trace", "ipot", "compute_itm_wpa")
    encoded, head = given(), nn.Linear(H, 2)
    weights = fill(head, {"weight": "itm.weight", "bias": "itm.bias"})
    torch.manual_seed(1)  # of the labels' order
    images = [torch.zeros(B, 1)]
    found = original.compute_itm_wpa(
        Module(encoded, head), {"text": [""] * B, "image": images, "false_image_0": images}
    )
    numbers = {name: float(found[name].detach()) for name in ("itm_loss", "itm_wpa_loss")}
    both = measured(found["itm_loss"] + found["itm_wpa_loss"], weights | encoded)
    return original.facts(), {"match": found["itm_labels"].tolist(), "each": numbers, "all": both}
