"""UNITER's input: how words and regions enter, and in which order. Some regions are hidden."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from tests.systems.originals.drawn import Numbers, fill, lengths, measured, numbers, whole
from tests.systems.originals.taking import Originals

REPOSITORY, COMMIT = "ChenRocks/UNITER", "966a5f8ed4afcf70c4da076efaef97009affa057"
B, T, R, H, D, V, PLACES = 3, 5, 4, 12, 6, 20, 8
WORDS, REGIONS = [5, 3, 4], [4, 2, 3]  # of each row, start and end included
SIZE = (640, 480)
HIDDEN = torch.tensor([[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 0, 0]], dtype=torch.bool)
WORD_NAMES = {f"{one}_embeddings.weight": f"{one} table" for one in ("word", "position", "token_type")} | {
    f"LayerNorm.{kind}": f"words norm {kind}" for kind in ("weight", "bias")
}
PAIRS = {"img_linear": "feature", "img_layer_norm": "feature norm", "pos_linear": "place",
         "pos_layer_norm": "place norm", "LayerNorm": "norm"}  # fmt: skip
REGION_NAMES = {f"{theirs}.{kind}": f"{ours} {kind}" for theirs, ours in PAIRS.items() for kind in ("weight", "bias")}
CONFIDENCES = [[0.9, 0.8, 0.7, 0.3, 0.2, 0.1], [0.1] * 6, [0.9] * 6]
CHOSEN = {"conf_th": 0.2, "min_bb": 2, "max_bb": 5}


def word_ids() -> Tensor:
    return whole("word ids", V - 1, B, T) + 1  # 0 is padding


def features() -> Tensor:
    return numbers("features", B, R, D)


def boxes() -> Tensor:
    """(B, R, 4) x1 y1 x2 y2 in pixels."""
    corners = numbers("corners", B, R, 4).sigmoid()
    ends = corners[..., :2] + (1 - corners[..., :2]) * corners[..., 2:]
    return torch.cat([corners[..., :2], ends], dim=-1) * torch.tensor(SIZE * 2, dtype=torch.float64)


def asked() -> dict[str, Tensor]:
    return {"words": numbers("asked words", B, T, H), "regions": numbers("asked regions", B, R, H)}


def run(folder: Path) -> tuple[Any, Numbers]:
    original = Originals(folder, REPOSITORY, COMMIT)
    original.put(FusedLayerNorm=nn.LayerNorm, pad_sequence=pad_sequence, unzip=lambda rows: zip(*rows, strict=True))
    methods = ("_compute_txt_embeddings", "_compute_img_embeddings", "_compute_img_txt_embeddings")
    original.take("model/model.py", "UniterTextEmbeddings", "UniterImageEmbeddings",
                  *(f"UniterModel.{name}" for name in methods))  # fmt: skip
    original.take("data/data.py", "compute_num_bb", "DetectFeatTxtTokDataset._get_img_feat", "pad_tensors",
                  "get_gather_index", commit="b38036f4ed4fa72d79aff47bb009c17dda2c8a84")  # fmt: skip
    original.take("data/mrm.py", "_get_img_tgt_mask", "_get_feat_target", "_mask_img_feat", "mrfr_collate",
                  commit="a6d578ae787bd69f16def654cfe5890560c554e9")  # fmt: skip
    counts = [int(original.compute_num_bb(torch.tensor(row), **CHOSEN)) for row in CONFIDENCES]
    return original.facts(), {"entering": entering(original), "regions taken": counts}


def stored(row: int) -> tuple[Tensor, Tensor]:
    """What the original's database has of an image: features, and the box with its width and height."""
    places = boxes()[row, : REGIONS[row]] / torch.tensor(SIZE * 2)
    return features()[row, : REGIONS[row]], torch.cat([places, places[:, 2:] - places[:, :2]], dim=1)


def entering(original: Originals) -> Numbers:
    config = SimpleNamespace(vocab_size=V, hidden_size=H, max_position_embeddings=PLACES, type_vocab_size=2,
                             hidden_dropout_prob=0.0)  # fmt: skip
    words, regions = original.UniterTextEmbeddings(config), original.UniterImageEmbeddings(config, D)
    weights = fill(words, WORD_NAMES) | fill(regions, REGION_NAMES | {"mask_embedding.weight": "hidden"})
    own = SimpleNamespace(embeddings=words, img_embeddings=regions, config=config)
    for name in ("_compute_txt_embeddings", "_compute_img_embeddings"):
        method = original.scope[name]
        setattr(own, name, lambda *given, method=method: method(own, *given))
    joint = original._compute_img_txt_embeddings(own, *collated(original))
    total = torch.zeros((), dtype=torch.float64)
    for row, (seen_words, seen_regions) in enumerate(zip(WORDS, REGIONS, strict=True)):
        parts = joint[row, :seen_words], joint[row, seen_words : seen_words + seen_regions]
        wanted = asked()["words"][row, :seen_words], asked()["regions"][row, :seen_regions]
        total = total + sum((part * want).sum() for part, want in zip(parts, wanted, strict=True))
    return measured(total, {name: weight for name, weight in weights.items() if name != "hidden"})


def collated(original: Originals) -> tuple[Tensor, ...]:
    rows = []
    for row, (seen_words, seen_regions) in enumerate(zip(WORDS, REGIONS, strict=True)):
        database = SimpleNamespace(img_db={"": stored(row)})
        feature, place, count = original._get_img_feat(database, "")
        hidden, ids = HIDDEN[row, :seen_regions], word_ids()[row, :seen_words]
        everything = torch.ones(seen_words + count, dtype=torch.long)
        rows.append((ids, feature, place, everything, hidden, original._get_img_tgt_mask(hidden, seen_words)))
    batch = original.mrfr_collate(rows)
    assert torch.equal(batch["attn_masks"].sum(dim=1), lengths(WORDS, T).sum(dim=1) + lengths(REGIONS, R).sum(dim=1))
    names = ("input_ids", "position_ids", "img_feat", "img_pos_feat", "gather_index", "img_masks")
    return tuple(batch[name] for name in names)
