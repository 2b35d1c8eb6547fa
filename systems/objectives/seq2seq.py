"""Objective `seq2seq`: fragments taken out of a text are written again, word by word, from the rest and the image."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pairloom.errors import ConfigError
from pairloom.loader.batch import IGNORE, Batch, Example, Words
from pairloom.loader.make import Make
from pairloom.loader.row import Row
from pairloom.typed import Share, check_ranges
from systems.objectives.drawing import draw_tokens
from systems.objectives.mlm import Head, hidden_words
from trainer.contract import Causal, Encoded, Fusion, Scored, Shapes


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Share of the words that are taken out, in spans of geometric length (UNIMO, arXiv:2012.15409, section 3.3)."""

    share: Share = 0.25

    def __post_init__(self) -> None:
        check_ranges(self)


def head(settings: Settings, model: Fusion, shapes: Shapes) -> Head:
    """Raises ConfigError if the model's words would see those that they are to predict."""
    if not isinstance(model, Causal):
        given = f"{type(model).__name__} lets words see what comes after them"
        raise ConfigError(given, "objective seq2seq", "take model single_stream, or leave the objective out")
    return Head(model, shapes.vocab_size)


def resizes(settings: Settings) -> bool:
    """Each row has one end more."""
    return True


def prepare(example: Example, row: Row, make: Make, settings: Settings, rng: np.random.Generator) -> Example:
    """The text as two: what is left, then what was taken out, each token of which is predicted from those before it."""
    tokenizer = make.tokenizer
    words = taken_apart(example.words, settings.share, tokenizer.start, tokenizer.end, rng)
    return replace(example, words=words, causal=True)


def taken_apart(words: Words, share: float, start: int, end: int, rng: np.random.Generator) -> Words:
    """start, what is left, end, fragments, end. The label of a place is the token after it, from the first end on.

    A text without words has no labels.
    """
    chosen = draw_tokens(words.word_ids_T, "geometric", share, rng)
    left = (words.word_ids_T >= 0) & ~chosen
    ids = np.concatenate([[start], words.ids_T[left], [end], words.ids_T[chosen], [end]])
    word_ids = np.concatenate([[-1], words.word_ids_T[left], [-1], words.word_ids_T[chosen], [-1]])
    first = 1 + int(left.sum())  # place of the first end
    labels = np.full(len(ids), IGNORE, np.int64)
    if chosen.any():
        labels[first:-1] = ids[first + 1 :]
    return Words(ids, word_ids, labels, (np.arange(len(ids)) > first).astype(np.int64))


def loss(model: Fusion, encoded: Encoded, head: Head, batch: Batch, settings: Settings) -> Scored:
    labels_M, positions_M = hidden_words(batch.words.labels_BT)
    return Scored.of_classes(head(encoded.words_BTH.flatten(0, 1)[positions_M], model.word_weight), labels_M)
