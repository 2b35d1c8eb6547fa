"""FashionBERT's input: how crops enter, which words and crops are hidden, and what is predicted of the crops."""

from __future__ import annotations

import random
from collections import namedtuple
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from tests.systems.originals import rates
from tests.systems.originals.drawn import Numbers, leaf, measured, numbers
from tests.systems.originals.in_torch import TF, Weights, easytransfer
from tests.systems.originals.taking import Originals

REPOSITORY, COMMIT = "alibaba/EasyTransfer", "1556e9f65b12188177c51c87ee56101e44b4ced0"
B, R, H, D = 2, 9, 12, 6
HIDDEN = torch.tensor([[0, 4], [8, 2]])
TURNED = {"image_projector", "output_weights"}  # the original multiplies by these from the right
MODEL = "ImageBertPreTrainedModel"
LENGTHS, MOST = (3, 9, 30, 90), 10  # pieces of a text, three to a word


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
    original.put(MaskedLmInstance=namedtuple("MaskedLmInstance", ["index", "label"]))
    original.take("easytransfer/preprocessors/pretrain_preprocessor.py", "create_masked_lm_predictions",
                  commit="1687abe0c499614a21274238d5ed7a3500e97c0f")  # fmt: skip
    draws = {pieces: partial(hide_words, original, pieces) for pieces in (1, 3)}
    hidden = {str(pieces): rates.tally(hide, lengths=LENGTHS) for pieces, hide in draws.items()}
    return original.facts(), {"crops": measured(total, {**drawn, "crops": crops}), "hidden words": hidden}


def hide_words(original: Originals, pieces: int, length: int) -> tuple[list[bool], list[int]]:
    """pieces: of each word."""
    word = str(rates.WORD)
    names = [word if number % pieces == 0 else f"##{word}" for number in range(length)]
    tokens = ["[CLS]", *names, "[SEP]"]
    others = [str(one) for one in rates.OTHERS]
    shown, places, _ = original.create_masked_lm_predictions(tokens, 0.15, MOST, others, True, random)
    kinds = rates.kinds_of([token.removeprefix("##") for token in shown[1:-1]])
    return [place in places for place in range(1, length + 1)], kinds
