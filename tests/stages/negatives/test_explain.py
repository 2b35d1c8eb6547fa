"""`--explain`: the words that two captions share, with scikit-learn's and rank-bm25's weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from rank_bm25 import BM25Okapi
from sklearn.feature_extraction.text import TfidfVectorizer

from pipeline.cli import main
from stages.negatives import Config
from stages.negatives.explain import explain
from stages.negatives.standalone import Mined
from tests.stages.negatives.test_negatives import made_up, model_cosines, vectors_for


def mined(texts: list[str], images: list[str], config: Config) -> tuple[Mined, list[Any]]:
    one = Mined.of_columns(
        pa.array(images), pa.array(texts, pa.large_string()), pa.nulls(len(texts), pa.string()), config
    )
    return one, pa.concat_tables(one.slices(1))["negatives"].to_pylist()


@pytest.mark.parametrize("against", ["image", "caption"])
def test_each_word_adds_what_scikit_learn_multiplies(against: Any) -> None:
    texts, images = made_up(90, 5)
    config = Config(top_k=4, against=against)
    one, lists = mined(texts, images, config)
    vectorizer = TfidfVectorizer()
    vectors = vectorizer.fit_transform(texts).toarray()
    names = vectorizer.get_feature_names_out()
    rows = [row for row, image in enumerate(images) if image == images[30]]
    found = list(explain(one, images[30], {row: lists[row] for row in rows}))
    assert len(found) == sum(len(lists[row]) for row in rows) > 0
    given = [negative for row in rows for negative in lists[row]]
    for explained, negative in zip(found, given, strict=True):
        assert explained.similarity == pytest.approx(negative["similarity"], abs=1e-6)
        number = images.index(negative["image_id"]) + negative["caption_index"]
        assert explained.negative == texts[number]
        products = vectors[rows[explained.nearest]] * vectors[number]
        wanted = {names[at]: products[at] for at in np.flatnonzero(products)}
        assert dict(explained.words) == pytest.approx(wanted, abs=1e-9)
        assert [share for _, share in explained.words] == sorted((share for _, share in explained.words), reverse=True)
        if against == "caption":
            assert explained.nearest == explained.caption_index


def test_words_of_bm25_add_up_to_its_score() -> None:
    texts, images = made_up(60, 6)
    one, lists = mined(texts, images, Config(scorer="bm25", top_k=3, against="caption"))
    scorer = BM25Okapi([text.split() for text in texts])
    for explained in explain(one, images[9], {9: lists[9]}):
        scores = scorer.get_scores(texts[9].split())
        assert explained.similarity == pytest.approx(scores[texts.index(explained.negative)] / scores[9], abs=1e-6)


@pytest.mark.parametrize("scorer", ["tfidf", "embedding"])
def test_vectors_explain_a_similarity_and_the_picture(scorer: Any) -> None:
    texts, images = made_up(60, 6)
    beside = vectors_for(images, 7, 3)
    assert beside.texts is not None
    config = Config(scorer=scorer, ceiling=0.9, top_k=4, veto="score", veto_similarity=0.3)
    one = Mined.of_columns(pa.array(images), pa.array(texts), pa.nulls(60, pa.string()), config, beside)
    lists = pa.concat_tables(one.slices(1))["negatives"].to_pylist()
    seen, unit = model_cosines(beside, images), beside.texts.astype(np.float64)
    unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-9)
    row = next(row for row in range(60) if lists[row] and np.isfinite(seen[row]).any())
    rows = {other: lists[other] for other, image in enumerate(images) if image == images[row]}
    given = [(own, negative) for own, each in rows.items() for negative in each]
    for explained, (own, negative) in zip(explain(one, images[row], rows), given, strict=True):
        number = images.index(negative["image_id"]) + negative["caption_index"]
        assert explained.similarity == pytest.approx(negative["similarity"], abs=1e-6)
        assert explained.picture == pytest.approx(np.nan_to_num(seen[own, number]), abs=1e-6)
        assert explained.picture is not None
        assert explained.picture <= 0.3
        if scorer == "embedding":
            nearest = images.index(images[row]) + explained.nearest
            assert explained.similarity == pytest.approx(unit[nearest] @ unit[number], abs=1e-6)
        assert bool(explained.words) == (scorer == "tfidf")


def test_the_verb_says_it_and_refuses_an_image_that_is_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "captions.csv").write_text(
        "image_id,caption\n1,a red dog\n2,a red cat\n3,a blue dog\n", encoding="utf-8"
    )
    line = ["negatives", str(tmp_path / "captions.csv"), "--out", str(tmp_path / "out"), "--quiet", "--json"]
    assert main([*line, "--explain", "1"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert [[word for word, _ in one["words"]] for one in facts["explained"]] == [["red"], ["dog"]]
    assert main([*line, "--redo", "--explain", "9"]) != 0
    assert "name an image_id of the list, such as '1'" in capsys.readouterr().err
