"""CLIP (arXiv:2103.00020): its logits by its own code, its loss and the bound of its scale by open_clip's.

OpenAI released no training.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from tests.systems.originals.drawn import Numbers, leaf, measured, numbers
from tests.systems.originals.taking import Originals

REPOSITORY, COMMIT = "openai/CLIP", "0845fc462666c43bda82243874b66a0071464510"
OPEN, RELEASE = "mlfoundations/open_clip", "v3.3.0"
B, E = 5, 6
STEPS = (-0.5, 2.6592, 4.6, 5.0)  # the scale's logarithm after steps of an optimiser


def given() -> dict[str, Tensor]:
    """What the towers give, of any length."""
    return {"images": leaf("images", B, E), "texts": leaf("texts", B, E)}


def run(folder: Path) -> tuple[Any, Numbers]:
    original, training = Originals(folder, REPOSITORY, COMMIT), Originals(folder, OPEN, RELEASE)
    original.take("clip/model.py", "CLIP.forward")
    training.put(Optional=None)
    training.take("src/open_clip/loss.py", "ClipLoss")
    found = {str(step): at(original, training, step) for step in STEPS}
    return [original.facts(), training.facts()], found


def at(original: Originals, training: Originals, step: float) -> Numbers:
    """After a step: the scale, the logits, and the loss with its gradients."""
    encoded, scale = given(), torch.tensor(step, dtype=torch.float64, requires_grad=True)
    towers = SimpleNamespace(encode_image=lambda given: given, encode_text=lambda given: given, logit_scale=scale)
    training.put(model=towers, unwrap_model=lambda model: model)
    with torch.no_grad():
        path, function = "src/open_clip_train/train.py", "train_one_epoch"
        training.run_branch(path, function, "with torch.no_grad()", "clamp_")
    logits, _ = original.forward(towers, encoded["images"], encoded["texts"])
    seen = {name: one / one.norm(dim=-1, keepdim=True) for name, one in encoded.items()}
    loss = training.ClipLoss()(seen["images"], seen["texts"], scale.exp())
    asked = (logits * numbers("asked", B, B)).sum()
    return {
        "scale": float(scale.detach().exp()),
        "logits": float(asked.detach()),
        "loss": measured(loss, encoded | {"scale": scale}),
    }
