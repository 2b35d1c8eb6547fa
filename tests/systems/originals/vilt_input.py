"""ViLT's input: how words and the patches of pictures of several sizes enter. No layer follows but the last norm.

Patches of the largest picture come in an order that is drawn, so that what is asked of a row's patches is one for all.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from tests.systems.originals.drawn import Numbers, fill, measured, numbers, whole
from tests.systems.originals.taking import Originals

REPOSITORY, COMMIT = "dandelin/ViLT", "23e29d0e9bc872a9ac521fd486f374aeb4d221f0"
FORK, FORKED = "kris927b/ViLT", "c8def696e24fe6523133968e3835a9b02ba0bc0c"  # vision_transformer.py is stored of forks
B, T, H, V, PLACES, PATCH, SIDE = 3, 4, 12, 20, 8, 4, 12
SHAPES = [(12, 12), (8, 12), (12, 4)]  # rows and columns of pixels
WORD_NAMES = {f"{one}_embeddings.weight": f"{one} table" for one in ("word", "position", "token_type")} | {
    f"LayerNorm.{kind}": f"words norm {kind}" for kind in ("weight", "bias")
}


def word_ids() -> Tensor:
    return whole("word ids", V, B, T)


def mask() -> Tensor:
    """(B, SIDE, SIDE) bool, where there are pixels."""
    seen = torch.zeros(B, SIDE, SIDE, dtype=torch.bool)
    for row, (height, width) in enumerate(SHAPES):
        seen[row, :height, :width] = True
    return seen


def pixels() -> Tensor:
    return numbers("pixels", B, 3, SIDE, SIDE) * mask()[:, None]


def read(words: Tensor, patches: Tensor, seen: Tensor) -> Tensor:
    """words: (B, T, H). patches: (B, U, H), the class token first. seen: (B, U)."""
    per_row = numbers("asked patches", B, 1, H)
    first = (patches[:, 0] * numbers("asked class", B, H)).sum()
    rest = torch.where(seen[:, 1:, None].bool(), patches[:, 1:] * per_row + patches[:, 1:].square() * per_row, 0)
    return (words * numbers("asked words", B, T, H)).sum() + first + rest.sum()


def run(folder: Path) -> tuple[Any, Numbers]:
    original, fork = Originals(folder, REPOSITORY, COMMIT), Originals(folder, FORK, FORKED)
    original.take("vilt/modules/vilt_module.py", "ViLTransformerSS.infer")
    fork.put(to_2tuple=lambda side: (side, side))
    fork.take("vilt/modules/vision_transformer.py", "PatchEmbed", "VisionTransformer.visual_embed")
    # Its BertEmbeddings are transformers', whose sum and norm nn's own modules give here.
    words = Words()
    weights = fill(words, WORD_NAMES)
    cutter, norm, kinds = fork.PatchEmbed(SIDE, PATCH, 3, H), nn.LayerNorm(H, eps=1e-6), nn.Embedding(2, H)
    for module, name in ((cutter.proj, "patch"), (norm, "norm")):
        weights |= fill(module, {kind: f"{name} {kind}" for kind in ("weight", "bias")})
    weights |= fill(kinds, {"weight": "kinds"})
    count = (SIDE // PATCH) ** 2
    for name, places in (("class", 1), ("places", 1 + count)):
        weights[name] = numbers(name, 1, places, H, scale=0.3).requires_grad_()
    transformer = SimpleNamespace(
        patch_embed=cutter, pos_embed=weights["places"], cls_token=weights["class"], patch_dim=SIDE // PATCH,
        pos_drop=nn.Identity(), add_norm_before_transformer=False, blocks=[], norm=norm,
    )  # fmt: skip
    transformer.visual_embed = lambda given, **settings: fork.visual_embed(transformer, given, **settings)
    own = SimpleNamespace(text_embeddings=words, token_type_embeddings=kinds, transformer=transformer,
                          pooler=nn.Identity(), hparams=SimpleNamespace(config={"max_image_len": 200}))  # fmt: skip
    torch.manual_seed(1)
    batch = {"image": [pixels()], "text_ids": word_ids(), "text_labels": None,
             "text_masks": torch.ones(B, T, dtype=torch.long)}  # fmt: skip
    found = original.infer(own, batch)
    total = read(found["text_feats"], found["image_feats"], found["image_masks"])
    return [original.facts(), fork.facts()], measured(total, weights)


class Words(nn.Module):
    """BERT's embeddings."""

    def __init__(self) -> None:
        super().__init__()
        self.word_embeddings, self.position_embeddings = nn.Embedding(V, H), nn.Embedding(PLACES, H)
        self.token_type_embeddings, self.LayerNorm = nn.Embedding(2, H), nn.LayerNorm(H, eps=1e-12)

    def forward(self, ids: Tensor) -> Tensor:
        places = self.position_embeddings.weight[: ids.shape[1]]
        entered: Tensor = self.LayerNorm(self.word_embeddings(ids) + places + self.token_type_embeddings.weight[0])
        return entered
