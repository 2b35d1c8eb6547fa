"""Questions about a row's image: one drawn in the place of its caption, another image's, and numbers for answers."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pairloom.loader.pair import Pair, Question
from pairloom.loader.row import Row

TRIES = 10  # to find another image that has a question


def about(row: Row) -> list[Question]:
    """The questions about the row's image, in their order."""
    return [
        Question(one["text"], tuple((answer["text"], answer["score"]) for answer in one["answers"]))
        for one in row.value("qa") or ()
    ]


def ask(pair: Pair, share: float, rng: np.random.Generator, *, answered: bool = False) -> Pair:
    """In this share of the draws, a random question about the image instead of the caption. The pair where it has none.

    answered: whether only a question with an answer will do.
    """
    if rng.random() >= share:
        return pair
    found = [question for question in about(pair.row) if question.answers or not answered]
    if not found:
        return pair
    question = found[rng.integers(len(found))]
    return replace(pair, text=question.text, question=question)


def another(row: Row, rng: np.random.Generator, *, answered: bool = False) -> Question | None:
    """A random question about another image of the row group, or None if ten images that are tried have none."""
    for _ in range(TRIES):
        other = row.other(rng)
        found = [] if other is None else [one for one in about(other) if one.answers or not answered]
        if found:
            return found[rng.integers(len(found))]
    return None


def texts(column: pa.ChunkedArray) -> list[str]:
    """What a column of questions says, all questions and then all answers, to train a tokenizer on."""
    asked = pc.list_flatten(column)
    answers = pc.list_flatten(pc.struct_field(asked, "answers"))
    return [text for part in (asked, answers) for text in pc.struct_field(part, "text").to_pylist()]


@functools.lru_cache(maxsize=8)  # each shard's metadata is another text, though the same
def numbers(answers: str) -> Mapping[str, int]:
    """The number of each answer that a head predicts, from the shards' metadata `answers`."""
    return {answer: number for number, answer in enumerate(json.loads(answers))}
