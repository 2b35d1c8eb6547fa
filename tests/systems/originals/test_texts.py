"""Oscar's tokens and labels, and SpanBERT's spans, against the numbers of the original code."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tokenizers

from pairloom.loader.tokenizer import Tokenizer
from systems import recipes
from systems.objectives.drawing import SPAN_LENGTHS, draw_words
from tests.systems.originals import oscar, rates, spanbert
from tests.systems.originals.drawn import agree, expected

OURS = 3_000


def test_oscars_two_texts_become_the_same_tokens() -> None:
    names = {word: number for number, word in enumerate(oscar.SPECIAL + oscar.WORDS)}
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(names, unk_token="[UNK]"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    tokenizer = Tokenizer(backend, recipes.load("oscar").text.max_tokens)
    for lengths, wanted in zip(oscar.LENGTHS, expected("oscar")["layout"], strict=True):
        found = tokenizer.words(*(" ".join(words) for words in oscar.texts(*lengths)))
        assert found.ids_T.tolist() == wanted["ids"], lengths
        assert found.segments_T.tolist() == wanted["segments"], lengths


@pytest.mark.parametrize("system", sorted(oscar.SYSTEMS))
def test_as_many_texts_are_wrong(system: str) -> None:
    """Label 1 is another image's second text, label 2 its first."""
    settings: Any = recipes.load(system).objectives["polluted"].settings
    shares = [1 - settings.second - settings.first, settings.second, settings.first]
    for label, share in expected("oscar")[system].items():
        assert share == pytest.approx(shares[int(label)], abs=4 * (share * (1 - share) / oscar.ROWS) ** 0.5)


def test_oscar_hides_as_many_words() -> None:
    rates.words_alike(expected("oscar")["hidden words"], **rates.of(recipes.load("oscar").objectives["mlm"].settings))


def test_spans_are_as_long() -> None:
    agree((SPAN_LENGTHS / SPAN_LENGTHS.sum()).tolist(), expected("spanbert")["lengths"])


@pytest.mark.parametrize("length", spanbert.LENGTHS)
def test_spans_cover_the_same_words(length: int) -> None:
    rng, wanted = np.random.default_rng(0), expected("spanbert")[str(length)]
    hidden = np.array([draw_words(length, "geometric", spanbert.SHARE, rng) for _ in range(OURS)])
    found, spread = spanbert.summary(hidden), 4 * (1 / OURS + 1 / spanbert.CAPTIONS) ** 0.5
    assert found["hidden"] == wanted["hidden"]
    assert found["runs"] == pytest.approx(wanted["runs"], abs=spread * spanbert.runs(hidden).std())
    for name in ("first", "last"):
        assert found[name] == pytest.approx(wanted[name], abs=spread * (wanted[name] * (1 - wanted[name])) ** 0.5), name
