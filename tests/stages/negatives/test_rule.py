"""The rule as properties of any input, however odd, and real text against brute force."""

from __future__ import annotations

import random
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.sparse import csr_matrix

from benchmarks.captions_text import glosses
from pairloom.errors import ConfigError, InputError
from schemas.pairs import CAPTION
from stages.negatives import Config, mine
from stages.negatives.captions import captions_of, table_of
from stages.negatives.inverted import Index, build
from stages.negatives.mining import mine_captions
from stages.negatives.near import looks_like, with_looks
from stages.negatives.standalone import caption_indexes, nothing
from stages.negatives.words import normalise
from tests.stages.memory import InMemory

WORD = st.sampled_from(
    ["dog", "dogs", "red", "on", "the", "İ", "ΑΣ", "猫犬", "の", "كلب", "😀", "\x00", "e\u0301t", "a"]
)
CORPUS = st.lists(st.tuples(st.lists(WORD, max_size=6).map(" ".join), st.sampled_from("abcdef")), max_size=16)


def listed(mined: pa.Table) -> list[list[tuple[str, int, float]]]:
    rows = mined["negatives"].to_pylist()
    return [[(one["image_id"], one["caption_index"], one["similarity"]) for one in row] for row in rows]


@settings(max_examples=100, deadline=None)
@given(corpus=CORPUS, scorer=st.sampled_from(["tfidf", "bm25"]), ceiling=st.floats(0.1, 1.2), top_k=st.integers(1, 5))
def test_every_list_obeys_the_rule(corpus: list[tuple[str, str]], scorer: Any, ceiling: float, top_k: int) -> None:
    texts, images = columns(corpus)
    mined = mine(texts, images, config=Config(scorer=scorer, ceiling=ceiling, top_k=top_k))
    names = list(zip(images, mined["caption_index"].to_pylist(), strict=True))
    assert mined["image_id"].to_pylist() == images
    for name, text, row in zip(names, texts, mined.to_pylist(), strict=True):
        found = [((one["image_id"], one["caption_index"]), one["similarity"]) for one in row["negatives"]]
        assert row["short"] == top_k - len(found) >= 0
        assert len({other for other, _ in found}) == len(found)
        assert all(other[0] != name[0] for other, _ in found)
        assert all(0 < value < np.float32(ceiling) for _, value in found)
        assert found == sorted(found, key=lambda one: (-one[1], one[0]))
        for one, (other, _) in zip(row["negatives"], found, strict=True):
            assert one["text"] == texts[names.index(other)]
            assert normalise(one["text"]) != normalise(text)


@settings(max_examples=60, deadline=None)
@given(corpus=CORPUS, seed=st.integers(0, 99))
def test_the_order_of_the_rows_changes_nothing(corpus: list[tuple[str, str]], seed: int) -> None:
    rows = [(f"{text}", f"{image}{number}") for number, (text, image) in enumerate(corpus)]
    shuffled = random.Random(seed).sample(rows, len(rows))
    one = dict(zip([i for _, i in rows], listed(mine(*columns(rows))), strict=True))
    other = dict(zip([i for _, i in shuffled], listed(mine(*columns(shuffled))), strict=True))
    assert one == other


@settings(max_examples=60, deadline=None)
@given(corpus=CORPUS)
def test_other_names_of_the_images_in_the_same_order_give_the_same_lists(corpus: list[tuple[str, str]]) -> None:
    renamed = [(text, f"image {image}") for text, image in corpus]
    wanted = [[(f"image {image}", *rest) for image, *rest in row] for row in listed(mine(*columns(corpus)))]
    assert listed(mine(*columns(renamed))) == wanted


def columns(rows: list[tuple[str, str]]) -> tuple[list[str], list[str]]:
    return [text for text, _ in rows], [image for _, image in rows]


@pytest.mark.parametrize(
    "texts",
    [
        [],
        [""],
        ["one"],
        ["", "", ""],
        ["the the", "the"],
        ["😀", "😀😀"],
        ["a", "b"],
        ["\x00\x00", "\x00 dog", "dog \x00"],
    ],
)
def test_odd_corpora_have_a_result(texts: list[str]) -> None:
    mined = mine(texts, [str(row) for row in range(len(texts))], config=Config(ceiling=0.99))
    assert mined.schema == nothing(pa.string()).schema
    assert len(mined) == len(texts)


def test_a_caption_of_ten_thousand_words_is_mined_like_any_other() -> None:
    long = " ".join(f"w{number}" for number in range(10, 10_010))
    half = " ".join(f"w{number}" for number in range(10, 10_010, 9))
    mined = mine([long, half, "w19 here", "w19 there"], ["a", "b", "c", "d"], config=Config(ceiling=0.9))
    names = [[one[0] for one in row] for row in listed(mined)]
    assert names == [["b", "c", "d"], ["a", "c", "d"], ["d", "b", "a"], ["c", "b", "a"]]


def test_right_to_left_text_is_compared_by_its_words() -> None:
    mined = mine(["كلب أحمر كبير", "قطة حمراء كبير", "كلب صغير"], ["a", "b", "c"], config=Config(ceiling=0.9))
    assert sorted(one[0] for one in listed(mined)[0]) == ["b", "c"]


def test_a_hundred_thousand_equal_captions_are_one_text() -> None:
    texts = ["a red dog"] * 100_000 + ["a red cat"]
    images = [f"{row:06d}" for row in range(len(texts))]
    mined = mine(texts, images, config=Config(ceiling=0.9, top_k=3, distinct=False))
    assert mined["short"][:-1].unique().to_pylist() == [2]
    assert [one[:2] for one in listed(mined.slice(100_000))[0]] == [("000000", 0), ("000001", 0), ("000002", 0)]
    mined = mine(texts, images, config=Config(ceiling=0.9, top_k=3))
    assert mined["short"].unique().to_pylist() == [2]
    assert [one[:2] for one in listed(mined.slice(100_000))[0]] == [("000000", 0)]


def test_half_a_surrogate_and_too_many_captions_of_an_image_are_refused() -> None:
    with pytest.raises(InputError, match="not valid Unicode"):
        mine(["\ud800", "b"], ["a", "b"])
    with pytest.raises(InputError, match="65537 captions"):
        mine(["x"] * 65_537, ["a"] * 65_537)
    with pytest.raises(ConfigError, match="near_distance is 17"):
        Config(near_distance=17)


def test_min_df_and_max_df_leave_terms_out_as_scikit_learn_does() -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer

    rng = np.random.default_rng(3)
    texts = [" ".join(f"w{word}" for word in rng.zipf(1.5, 6) % 50) + " all" for _ in range(80)]
    vectors = TfidfVectorizer(min_df=2, max_df=0.6, ngram_range=(1, 2), dtype=np.float64).fit_transform(texts)
    cosines = (vectors @ vectors.T).toarray()
    config = Config(min_df=2, max_df=0.6, ngram_range=(1, 2), top_k=4, ceiling=0.8, distinct=False)
    images = [f"{row:02d}" for row in range(80)]
    for row, found in enumerate(listed(mine(texts, images, config=config))):
        others = [v for o, v in enumerate(cosines[row]) if normalise(texts[o]) != normalise(texts[row]) and 0 < v < 0.8]
        np.testing.assert_allclose([one[2] for one in found], sorted(others, reverse=True)[:4], atol=1e-6)


def curated(texts: Sequence[str], phashes: Sequence[int], images: Sequence[bytes]) -> tuple[list[bytes], InMemory]:
    """(ids, two shards): the first has two images."""
    ids = [bytes([number]) * 16 for number in range(len(texts))]
    table = pa.table(
        {
            "image_id": pa.array(ids, pa.binary(16)),
            "image": pa.array(images, pa.large_binary()),
            "captions": pa.array([[{"text": t, "original": t, "lang": None}] for t in texts], pa.list_(CAPTION)),
            "phash": pa.array(phashes, pa.uint64()),
        }
    )
    return ids, InMemory("curate", [table.slice(0, 2), table.slice(2)])


def looks(corpus: InMemory, config: Config, room: Path) -> list[bytes]:
    captions = pa.concat_tables([captions_of(part) for _, part in corpus.tables("curate", ("image_id", "captions"))])
    found: list[bytes] = with_looks(captions, looks_like(corpus, config, room))["looks_like"].to_pylist()
    return found


def test_images_that_look_the_same_are_never_each_others_negatives(tmp_path: Path) -> None:
    texts = ["red dog", "red dog runs", "red dog sits", "red dog jumps"]
    ids, corpus = curated(texts, [0, 0b111, (1 << 64) - 1, 0b1], [b"no picture"] * 4)
    assert looks(corpus, Config(), tmp_path) == [ids[0], ids[0], ids[2], ids[0]]
    captions = pa.concat_tables([captions_of(part) for _, part in corpus.tables("curate", ("image_id", "captions"))])
    index = build(with_looks(captions, looks_like(corpus, Config(), tmp_path)), Config(ceiling=0.99))
    found = mine_captions(index, 0, np.arange(4), Config(ceiling=0.99))
    assert np.split(found.places, np.cumsum(found.counts)[:-1])[0].tolist() == [2]
    assert np.split(found.places, np.cumsum(found.counts)[:-1])[2].tolist() != []


def test_a_red_and_a_blue_bus_are_two_images_that_look_alike_only_in_grey(tmp_path: Path) -> None:
    images = []
    for colour in ("red", "blue", "darkred"):
        buffer = BytesIO()
        Image.new("RGB", (64, 64), colour).save(buffer, "PNG")
        images.append(buffer.getvalue())
    ids, corpus = curated(["a red bus", "a blue bus", "a dark red bus"], [0, 0, 0], images)
    assert looks(corpus, Config(near_colour_distance=70.0), tmp_path) == [ids[0], ids[1], ids[0]]
    assert looks(corpus, Config(near_colour_distance=None), tmp_path) == [ids[0]] * 3


@pytest.mark.slow
@pytest.mark.parametrize("scorer", ["tfidf", "bm25"])
def test_twenty_thousand_real_glosses_have_the_negatives_of_brute_force(scorer: Any) -> None:
    texts = glosses()
    if not texts:
        pytest.skip("Debian's wordnet-base is not installed")
    texts = texts[:: len(texts) // 20_000][:20_000]
    config = Config(scorer=scorer, distinct=False)
    index = glosses_index(texts, config)
    found = mine_captions(index, 0, np.arange(len(texts)), config)
    ends = np.cumsum(found.counts)
    checked = np.arange(0, len(texts), 7)  # of all captions every seventh, or brute force takes most of a minute
    for rows in np.array_split(checked, 2):
        for caption, values in zip(rows, similarities(texts, index, rows, config), strict=True):
            other = index.parts[0].captions.documents != index.parts[0].captions.documents[caption]
            allowed = np.flatnonzero(other & (values > 0) & (values < np.float32(0.5)))
            best = allowed[np.lexsort((allowed, -values[allowed]))][:30]
            mine_of = slice(ends[caption] - found.counts[caption], ends[caption])
            np.testing.assert_array_equal(found.places[mine_of], best)


def glosses_index(texts: list[str], config: Config) -> Index:
    ids = pa.array([f"{row:06d}" for row in range(len(texts))])
    return build(table_of(ids, caption_indexes(ids), texts, [None] * len(texts)), config)


def similarities(texts: list[str], index: Index, rows: Any, config: Config) -> Any:
    """float32 (rows, captions): all products of the index's vectors, whose weights other tests hold to libraries'."""
    part = index.parts[0]
    shape = len(part.postings.starts) - 1, index.scales.shape[1]
    full = csr_matrix((part.postings.weights, part.postings.terms, part.postings.starts), shape=shape)
    asked = csr_matrix((part.query_weights, part.postings.terms, part.postings.starts), shape=shape)
    documents = part.captions.documents
    return (asked[documents[rows]] @ full.T).toarray().astype(np.float32)[:, documents]


@pytest.mark.slow
def test_the_vectors_of_real_glosses_are_scikit_learns(tmp_path: Path) -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = [normalise(text) for text in glosses()[::6]]
    if not texts:
        pytest.skip("Debian's wordnet-base is not installed")
    texts = list(dict.fromkeys(texts))
    theirs = TfidfVectorizer(dtype=np.float64)
    wanted = theirs.fit_transform(texts)
    index = glosses_index(texts, Config(unspaced="words"))
    places = [theirs.vocabulary_[name] for name in index.statistics.names.to_pylist()]
    postings = index.parts[0].postings
    arrays = postings.weights, np.array(places)[postings.terms], postings.starts
    assert abs(csr_matrix(arrays, shape=wanted.shape) - wanted).max() < 1e-12
