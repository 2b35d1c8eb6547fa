"""Objective `mlm`: masked language modelling, words hidden and predicted from the rest and the image."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pairloom.errors import ConfigError
from pairloom.loader.batch import IGNORE, Batch
from pairloom.loader.draws import Draws
from pairloom.loader.examples import Examples
from pairloom.loader.make import Make
from pairloom.typed import Positive, Share, check_ranges
from systems.layers import norm_eps_of, transform
from systems.objectives.drawing import By
from systems.objectives.masking import mask_all_words, without_regions
from trainer.contract import Encoded, Fusion, Scored, Shapes


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How many words are hidden, which together, and whether those of a text that is not the image's count.

    at_least_one: a caption of which no word was drawn gets one. Otherwise a short caption often stays whole: at 0.15,
    44 % of those with 5 words and 27 % of those with 8.
    most: tokens that are hidden of a text, with `by: counted`.
    head: `table` is the word embeddings read backwards and nothing else (SOHO). `transform` has BERT's layer before and
    a bias.
    """

    probability: Share = 0.15
    by: By = "token"
    at_least_one: bool = True
    most: Positive | None = None
    head: Literal["transform", "table"] = "transform"
    image: bool = True  # false: the text alone is seen (UNIMO), one of the loader's texts where it has any
    matched_only: bool = False

    def __post_init__(self) -> None:
        check_ranges(self)


def text_alone(settings: Settings) -> bool:
    return not settings.image


class Head(nn.Module):
    """A layer, then the word embeddings read backwards, and a bias."""

    def __init__(self, model: Fusion, vocab_size: int) -> None:
        super().__init__()
        self.transform = transform(model.widths.words, model.init_std, norm_eps_of(model))
        self.bias_V = nn.Parameter(torch.zeros(vocab_size))

    def forward(self, hidden_MH: Tensor, word_weight_VH: Tensor) -> Tensor:
        return F.linear(self.transform(hidden_MH), word_weight_VH, self.bias_V)


class Table(nn.Module):
    """The word embeddings read backwards."""

    def forward(self, hidden_MH: Tensor, word_weight_VH: Tensor) -> Tensor:
        return F.linear(hidden_MH, word_weight_VH)


def head(settings: Settings, model: Fusion, shapes: Shapes) -> Head | Table:
    return Table() if settings.head == "table" else Head(model, shapes.vocab_size)


def prepare_all(examples: Examples, make: Make, settings: Settings, draws: Draws) -> Examples:
    """Some of the words hidden. Alone in its step, the regions are all shown: UNITER's conditional masking."""
    if make.tokenizer.mask is None:
        raise ConfigError("the vocabulary has no mask token", "objective mlm", "name one that has [MASK] or <mask>")
    if not settings.image:
        examples = make.all_alone(without_regions(examples), draws)
    words = mask_all_words(
        examples.words, examples.word_counts, make.tokenizer, settings.probability, draws.rngs, settings.by,
        settings.at_least_one, settings.most,
    )  # fmt: skip
    return replace(examples, words=words)


def loss(model: Fusion, encoded: Encoded, head: Head | Table, batch: Batch, settings: Settings) -> Scored:
    labels_BT = batch.words.labels_BT
    if settings.matched_only:
        labels_BT = torch.where(batch.match_B[:, None], labels_BT, IGNORE)
    labels_M, positions_M = hidden_words(labels_BT)
    hidden_MH = encoded.words_BTH.flatten(0, 1)[positions_M]
    return Scored.of_classes(head(hidden_MH, model.word_weight), labels_M)


def hidden_words(labels_BT: Tensor) -> tuple[Tensor, Tensor]:
    """(labels, their flat positions) of the hidden words, so that the vocabulary is scored at these alone."""
    labels_L = labels_BT.flatten()
    positions_M = (labels_L != IGNORE).nonzero().squeeze(1)
    return labels_L[positions_M], positions_M
