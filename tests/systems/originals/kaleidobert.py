"""Kaleido-BERT (arXiv:2103.16110): how the crops of five levels enter, and its seven losses.

Inputs of the losses are what the encoder is taken to give, and the scores of hidden words. Each level's table of types
is one here, since each reads a row of its own.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from tests.systems.originals.drawn import Numbers, leaf, measured, numbers, whole
from tests.systems.originals.in_torch import TF, Weights, easytransfer
from tests.systems.originals.taking import Originals

REPOSITORY, COMMIT = "mczhuge/Kaleido-BERT", "a4e396e940e60d3dae1924347e1c22c3f4943102"
MODEL, LOSSES = "easytransfer/model_zoo/modeling_kaleidobert.py", "easytransfer/losses/pretrain_loss.py"
B, T, H, D, V = 2, 4, 12, 6, 20
LEVELS = {"rotation": 1, "jigsaw": 4, "camouflage": 9, "greymask": 16, "blankmask": 25}
ANSWERS = {"rotation": 4, "jigsaw": 24, "camouflage": 9}
PUZZLES = {"rotation": torch.tensor([3, 0]), "jigsaw": torch.tensor([17, 5]), "camouflage": torch.tensor([8, 2])}
R, ORDER = sum(LEVELS.values()), [0, 2, 1, 3, 6]  # x1 x2 y1 y2 w·h (section 3.5)
HIDDEN = {"greymask": torch.tensor([[3, 15], [0, 7]]), "blankmask": torch.tensor([[24, 0, 5], [2, 9, 11]])}
HIDDEN_WORDS = torch.tensor([[0, 1, 1, 0], [0, 1, 0, 0]], dtype=torch.bool)
PLACES, COUNTED = torch.tensor([[1, 2], [1, 0]]), torch.tensor([[1.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
MATCH = torch.tensor([True, False])
TURNED = {*(f"{level}_projector" for level in LEVELS), "position_dense", "greymask_output_weights",
          "blanmask_output_weights"}  # fmt: skip
SHARED = {f"{level}_type_embeddings": "types" for level in LEVELS}


def features() -> Tensor:
    """As shown, but for the blank ones."""
    return numbers("crop features", B, R, D)


def colours() -> Tensor:
    """(B, K, D) of the crops that are shown in grey."""
    return numbers("colours", B, 2, D)


def boxes() -> Tensor:
    """(B, R, 7)"""
    return numbers("boxes", B, R, 7).sigmoid()


def word_ids() -> Tensor:
    return whole("word ids", V, B, T)


def given() -> dict[str, Tensor]:
    """What the encoder gives, and the scores of two hidden words a row."""
    return {"crops": leaf("crops", B, R, H), "pooled": leaf("pooled", B, H), "word scores": leaf("scores", B, 2, V)}


def run(folder: Path) -> tuple[Any, Numbers]:
    drawn = Weights(TURNED, SHARED)
    original = Originals(folder, REPOSITORY, COMMIT)
    original.put(tf=TF, layers=easytransfer(drawn), _APP_FLAGS=SimpleNamespace(vocab_size=V))
    kinds = [*(f"{level.capitalize()}Embedding" for level in LEVELS),
             *(f"KaleidoBERT{level.capitalize()}Head" for level in LEVELS)]  # fmt: skip
    original.take(MODEL, *kinds, "KaleidoBERTPreTrainedModel.blankmask_patch_features")
    original.take(LOSSES, "masked_language_model_loss", "next_sentence_prediction_loss",
                  "image_reconstruction_kld_loss_with_mask")  # fmt: skip
    puzzles = (f"kaleidobert_{puzzle}_loss" for puzzle in ANSWERS)
    original.take("scripts/pretrain_main.py", *puzzles, "KaleidoBERTPretrain.build_loss")
    config = SimpleNamespace(
        patch_feature_size=D, hidden_size=H, initializer_range=0.02, patch_type_vocab_size=1 + len(LEVELS),
        hidden_dropout_prob=0.1, masked_greymask_patch_num=2, masked_blankmask_patch_num=3,
        **{f"img_{level}_seq_len": count for level, count in LEVELS.items()},
        **{f"img_{puzzle}_label_num": count for puzzle, count in ANSWERS.items()},
    )  # fmt: skip
    entered = measured(entering(original, config, drawn), dict(drawn))
    drawn.clear()
    return original.facts(), {"entering": entered, "losses": losses(original, config, drawn)}


def entering(original: Originals, config: Any, drawn: Weights) -> Tensor:
    dense, blocks = drawn.ask("position_dense", 5, H), []
    levels = zip(LEVELS, *(one.split(tuple(LEVELS.values()), dim=1) for one in (features(), boxes())), strict=True)
    for number, (level, feature, box) in enumerate(levels, start=1):
        own = SimpleNamespace(config=config)
        shown = original.blankmask_patch_features(own, feature, HIDDEN[level]) if level == "blankmask" else feature
        kinds, place = torch.full(shown.shape[:2], number), box[..., ORDER].flatten(1)
        blocks.append(original.scope[f"{level.capitalize()}Embedding"](config)([shown, kinds, place], dense))
    return (torch.cat(blocks, dim=1) * numbers("asked crops", B, R, H)).sum()


def losses(original: Originals, config: Any, drawn: Weights) -> Numbers:
    encoded = given()
    crops = dict(zip(LEVELS, encoded["crops"].split(tuple(LEVELS.values()), dim=1), strict=True))
    heads = {level: original.scope[f"KaleidoBERT{level.capitalize()}Head"](config) for level in LEVELS}
    puzzles = [heads[puzzle](crops[puzzle]) for puzzle in ANSWERS]
    masks = [heads[level](crops[level], places) for level, places in HIDDEN.items()]
    match = encoded["pooled"] @ drawn.ask("itm.weight", 2, H).t() + drawn.ask("itm.bias", 2)
    places = 30 + HIDDEN["blankmask"]
    blank = torch.cat([row[place] for row, place in zip(features(), places, strict=True)])
    hidden_ids = word_ids().gather(1, PLACES)
    labels = (hidden_ids, COUNTED, MATCH.long(), None, blank, torch.zeros(B), None, None, *PUZZLES.values(),
              colours().flatten(0, 1))  # fmt: skip
    own = SimpleNamespace(model=SimpleNamespace(config=config))
    total = original.build_loss(own, (encoded["word scores"].flatten(0, 1), match, *puzzles, *masks), labels)
    return measured(total, {**drawn, **encoded})
