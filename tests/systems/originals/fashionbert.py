"""FashionBERT (arXiv:2005.09801): the KL of hidden crops, and the weights that balance its three losses.

The original is TensorFlow's. Its few operations are torch's here, by the names that it calls.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from tests.systems.originals.drawn import Numbers, leaf, measured, numbers
from tests.systems.originals.taking import Originals

REPOSITORY, COMMIT = "alibaba/EasyTransfer", "f424accc8a40906b9cfe621118f1c54e6447b961"
B, K, D = 3, 2, 6  # K hidden crops of an image


def divergence(true: Tensor, predicted: Tensor) -> Tensor:
    """tf.keras.losses.KLD."""
    true, predicted = true.clamp(1e-7, 1), predicted.clamp(1e-7, 1)
    return (true * (true / predicted).log()).sum(dim=-1)


TF = SimpleNamespace(
    nn=SimpleNamespace(softmax=lambda given: given.softmax(dim=-1)), math=SimpleNamespace(square=torch.square),
    reshape=torch.reshape, stack=torch.stack, reduce_mean=torch.mean, summary=SimpleNamespace(scalar=lambda *_: None),
    keras=SimpleNamespace(losses=SimpleNamespace(KLD=divergence)),
)  # fmt: skip


def given() -> dict[str, Tensor]:
    """Two losses, and what is predicted of the hidden crops."""
    return {"mlm": leaf("mlm loss"), "itm": leaf("itm loss"), "crops": leaf("crops", B * K, D)}


def features() -> Tensor:
    return numbers("crop features", B * K, D)


def run(folder: Path) -> tuple[Any, Numbers]:
    original = Originals(folder, REPOSITORY, COMMIT)
    original.put(tf=TF, masked_language_model_loss=lambda given, *_: given,
                 next_sentence_prediction_loss=lambda given, _: given,
                 _APP_FLAGS=SimpleNamespace(vocab_size=0))  # fmt: skip
    original.take(
        "easytransfer/losses/pretrain_loss.py", "image_reconstruction_kld_loss",
        commit="1556e9f65b12188177c51c87ee56101e44b4ced0",
    )  # fmt: skip
    original.take("scripts/fashion_bert/pretrain_main.py", "ImageBertPretrain.build_loss")
    encoded = given()
    sizes = SimpleNamespace(masked_image_token_num=K, patch_feature_size=D)
    own = SimpleNamespace(model=SimpleNamespace(config=sizes))
    total = original.build_loss(own, tuple(encoded.values()), (None, None, None, features()))
    kl = original.image_reconstruction_kld_loss(encoded["crops"], features(), K, D)
    return original.facts(), {"kl": float(kl.detach()), "all": measured(total, encoded)}
