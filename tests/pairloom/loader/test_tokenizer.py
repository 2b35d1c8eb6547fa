"""Tokenizers trained on captions: the same each time, and nothing special but the special tokens."""

from __future__ import annotations

import functools
import random
from dataclasses import replace
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairloom.errors import ConfigError
from pairloom.loader import tokenizer
from systems.recipes import load

RECIPES = ("uniter", "clip", "simvlm")  # WordPiece, byte-level BPE, unigram


def captions() -> list[str]:
    """Words of few letters, so that many pieces are equally frequent."""
    chance = random.Random(0)
    words = ["".join(chance.choices("abcdefgh", k=chance.randint(2, 8))) for _ in range(300)]
    return [" ".join(chance.choices(words, k=8)) for _ in range(500)]


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_same_captions_give_the_same_vocabulary(recipe: str) -> None:
    texts = captions()
    trained = [tokenizer.train(iter(texts), load(recipe, "tiny").text).backend.to_str() for _ in range(5)]
    assert len(set(trained)) == 1


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_word_of_the_captions_has_known_pieces(recipe: str) -> None:
    texts = [*captions(), "Ein Hund, ein Ball – und café"]
    trained = tokenizer.train(iter(texts), load(recipe, "tiny").text)
    unknown = trained.backend.token_to_id("[UNK]")
    assert all(unknown not in trained.words(text).ids_T for text in texts)


def test_the_beginning_of_a_continued_piece_is_no_token_of_its_own_in_a_text() -> None:
    trained = tokenizer.train(iter([*captions(), "# a"]), load("uniter", "tiny").text)
    assert trained.backend.encode("##a", add_special_tokens=False).tokens == ["#", "#", "a"]


def test_a_unigram_vocabulary_without_room_for_the_letters_is_refused() -> None:
    text = replace(load("simvlm", "tiny").text, vocab_size=9)
    with pytest.raises(ConfigError, match="no tokenizer of 9 pieces"):
        tokenizer.train(iter(captions()), text)


@functools.lru_cache
def trained_once() -> tokenizer.Tokenizer:
    return tokenizer.train(iter(captions()), load("uniter", "tiny").text)


TEXTS = st.sampled_from(["", "ab cd", "abcdefgh", "ab, cd", "cd"])


@given(pairs=st.lists(st.tuples(TEXTS, st.none() | TEXTS), max_size=8))
def test_a_text_that_was_read_before_has_the_same_tokens(pairs: list[tuple[str, str | None]]) -> None:
    own = trained_once()
    with mock.patch.object(tokenizer, "KEPT_TEXTS", 2):
        for text, second in pairs * 2:
            encoded = [
                own.backend.encode(part, add_special_tokens=False) for part in (text, second) if part is not None
            ]
            found, first = own.words(text, second), len(set(encoded[0].word_ids))
            ids, numbers = [own.start], [-1]
            for part, before in zip(encoded, (0, first), strict=False):
                ids += [*part.ids, own.end]
                numbers += [*(before + (word or 0) for word in part.word_ids), -1]
            assert (found.ids_T.tolist(), found.word_ids_T.tolist()) == (ids, numbers)
