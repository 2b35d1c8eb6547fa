"""The compiled tokeniser against its definition in plain Python, and both against scikit-learn's analyser."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import CountVectorizer

from stages.negatives.rule import Config
from stages.negatives.text import normalised
from stages.negatives.tokens import tokenise
from stages.negatives.words import normalise, words

LETTERS = "aAzZ09_ .,-'\t\n\x00\x1cÄßéİſΣςأنा猫犬の狗กำ가😀\u0301\u200d"
TEXTS = st.lists(st.one_of(st.text(max_size=30), st.text(LETTERS, max_size=30)), max_size=8)


def terms_of(texts: list[str], config: Config) -> list[list[str]]:
    """The terms of each text, from the compiled tokeniser."""
    found = tokenise(pa.array(texts, pa.large_string()), config)
    names = found.names.to_pylist()
    ends = found.starts.tolist()
    return [[names[term] for term in found.terms[ends[row] : ends[row + 1]]] for row in range(len(texts))]


@settings(max_examples=150, deadline=None)
@given(texts=TEXTS)
@example(texts=["A  b\x1cC\x00d", "İstanbul ΑΣ", "", "a" * 70_000])
def test_columns_are_normalised_as_single_texts_are(texts: list[str]) -> None:
    wanted = [normalise(text) for text in texts]
    assert normalised(pa.array(texts, pa.large_string())).to_pylist() == wanted
    shifted = pa.array(["before", *texts], pa.large_string()).slice(1)
    assert normalised(shifted).to_pylist() == wanted


@settings(max_examples=150, deadline=None)
@given(texts=TEXTS)
def test_the_compiled_tokeniser_gives_the_words_of_its_definition(texts: list[str]) -> None:
    texts = [normalise(text) for text in texts]
    assert terms_of(texts, Config()) == [words(text) for text in texts]


@settings(max_examples=150, deadline=None)
@given(texts=TEXTS)
def test_without_bigrams_the_terms_are_those_of_scikit_learn(texts: list[str]) -> None:
    analyse = CountVectorizer().build_analyzer()
    texts = [normalise(text) for text in texts]
    assert terms_of(texts, Config(unspaced="words")) == [analyse(text) for text in texts]


@settings(max_examples=60, deadline=None)
@given(texts=TEXTS, sizes=st.sampled_from([(1, 2), (2, 2), (1, 3), (3, 4)]))
def test_runs_of_words_are_those_of_scikit_learn(texts: list[str], sizes: tuple[int, int]) -> None:
    analyse = CountVectorizer(ngram_range=sizes).build_analyzer()
    texts = [normalise(text) for text in texts]
    found = terms_of(texts, Config(unspaced="words", ngram_range=sizes))
    assert [sorted(terms) for terms in found] == [sorted(analyse(text)) for text in texts]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a red ball", ["red", "ball"]),
        ("猫", ["猫"]),
        ("一只狗", ["一只", "只狗"]),
        ("iphoneの写真", ["iphone", "の写", "写真"]),
        ("كلب أحمر", ["كلب", "أحمر"]),
        ("😀😀 !", []),
        ("", []),
    ],
)
def test_examples_of_terms(text: str, wanted: Any) -> None:
    assert terms_of([text], Config()) == [wanted]


def test_more_words_than_the_first_room_for_them_are_numbered_as_well() -> None:
    texts = [f"word{number} word{number + 1}" for number in range(70_000)]
    assert terms_of(texts, Config()) == [text.split() for text in texts]
