"""VILLA (arXiv:2006.06195): the gradients of one adversarial step.

What is trained is a small model with both sides' ways to be called.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from tests.systems.originals.drawn import Numbers, fill, numbers, whole
from tests.systems.originals.taking import Originals

REPOSITORY, COMMIT = "zhegan27/VILLA", "8aa6ac25a389f0168f873581079e2fc02a9ab674"
B, T, R, H, D, V = 3, 4, 5, 6, 7, 20
STEPS, LR, KL = 3, 0.3, 1.5
WEIGHTS = {name: f"adversarial.{name}" for name in ("words.weight", "read.weight", "told.weight")}
CASES: dict[str, dict[str, Any]] = {
    "words": {"adv_modality": ["text"], "adv_max_norm": 0.0, "norm_type": "l2"},
    "together": {"adv_modality": ["text", "image"], "adv_max_norm": 0.4, "norm_type": "l2"},
    "in turn": {"adv_modality": ["text", "image", "alter"], "adv_max_norm": 0.0, "norm_type": "l2"},
    "largest": {"adv_modality": ["text", "image"], "adv_max_norm": 0.4, "norm_type": "linf"},
}


class Small(nn.Module):
    """Three layers without dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.read, self.told = nn.Embedding(V, H), nn.Linear(D, H, bias=False), nn.Linear(H, 2, bias=False)
        self.uniter = SimpleNamespace(embeddings=SimpleNamespace(word_embeddings=self.words))

    def scores(self, ids: Tensor, features: Tensor, words: Tensor | float = 0.0, regions: Tensor | float = 0.0) -> Any:
        seen = torch.cat([self.words(ids) + words, self.read(features + regions)], dim=1)
        return self.told(seen.tanh().mean(dim=1))

    def forward(self, batch: Any, **adversarial: Any) -> Any:
        """As the original calls it."""
        nudges = [adversarial.get(f"adv_delta_{kind}") for kind in ("txt", "img")]
        return self.scores(batch["input_ids"], batch["img_feat"], *(0.0 if one is None else one for one in nudges))


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    """Token ids, features and labels."""
    return whole("word ids", V, B, T), numbers("features", B, R, D), torch.tensor([0, 1, 1])


def run(folder: Path) -> tuple[Any, Numbers]:
    original = Originals(folder, REPOSITORY, COMMIT)
    return original.facts(), {name: gradients(original, **settings) for name, settings in CASES.items()}


@contextmanager
def unscaled(loss: Tensor, *_: Any, **__: Any) -> Iterator[Tensor]:
    yield loss


def gradients(original: Originals, **settings: Any) -> Numbers:
    model, (ids, features, labels) = Small(), inputs()
    weights = fill(model, WEIGHTS)
    said: list[float] = []
    original.put(
        model=model, batch={"input_ids": ids, "img_feat": features, "targets": labels}, step=0, optimizer=None,
        amp=SimpleNamespace(scale_loss=unscaled), all_reduce_and_rescale_tensors=lambda *_: None,
        running_loss=said.append, opts=SimpleNamespace(adv_steps=STEPS, adv_kl_weight=KL, adv_lr_txt=LR, adv_lr_img=LR,
                                                       gradient_accumulation_steps=1, **settings),
    )  # fmt: skip
    original.run_branch("train_nlvr2_adv.py", "main", "if opts.adv_training")
    return summary(weights)


def summary(weights: dict[str, Tensor]) -> Numbers:
    """Norm of each gradient, and its product with a drawn direction."""
    found = {}
    for name, weight in weights.items():
        assert weight.grad is not None
        direction = numbers(f"direction of {name}", *weight.shape)
        found[name] = [float(weight.grad.norm()), float((weight.grad * direction).sum())]
    return found
