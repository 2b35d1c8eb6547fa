"""Hard negatives against brute force over scikit-learn's vectors and rank-bm25's scores, in memory and from disk."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from rank_bm25 import BM25Okapi
from sklearn.feature_extraction.text import TfidfVectorizer

from pairloom.errors import ConfigError, InputError
from pairloom.typed import build as build_config
from pipeline.config import as_json
from schemas.pairs import CAPTION
from stages import negatives
from stages.negatives import Beside, Config, mine, mining, standalone
from stages.negatives.captions import table_of
from stages.negatives.inverted import Index, build
from stages.negatives.kept import mine_kept
from stages.negatives.mining import mine_captions
from stages.negatives.standalone import caption_indexes
from stages.negatives.words import normalise, words
from stages.split import Split
from tests.stages.memory import InMemory
from tests.stages.rows import said_of

WORDS = ("dog", "cat", "red", "big", "runs", "two", "of", "one", "bus", "dogs")
CLOSE = 1e-6
Entry = tuple[str, int, float]  # image id, caption index, similarity
PUBLISHED: dict[str, Any] = {"against": "caption", "distinct": False, "train_only": False}  # InterBERT's rule


def made_up(number: int, seed: int) -> tuple[list[str], list[str]]:
    """(captions, image ids): three captions an image, words by a skewed law, some texts the same."""
    rng = np.random.default_rng(seed)
    law = 1 / np.arange(1, 31)
    vocabulary = [f"word{rank}" for rank in range(30)]
    texts = [" ".join(rng.choice(vocabulary, rng.integers(2, 8), p=law / law.sum())) for _ in range(number)]
    return texts, [f"image{row // 3:04d}" for row in range(number)]


def brute_force(
    texts: list[str],
    images: list[str],
    similarity: Any,
    config: Config,
    beside: Beside | None = None,
) -> list[list[Entry]]:
    """For each caption (image id, caption index, similarity) of what the rule admits, sorted as it says, uncut."""
    every = judged(texts, images, similarity, config, beside or Beside())
    return [[one for one, veto in own if veto is None] for own in every]


def judged(
    texts: list[str], images: list[str], similarity: Any, config: Config, beside: Beside
) -> list[list[tuple[Entry, str | None]]]:
    """The same before the vetoes, each with the name of the first of `config.vetoes` that takes it."""
    told_by_tags = {image: told_of(own, config) for image, own in (beside.tags or {}).items()}
    every = {word for own in (beside.tags or {}).values() for tag in own for word in plurals(words(normalise(tag)))}
    content = every.union(config.veto_words, config.veto_numbers)
    numbers = dict(enumerate(config.veto_numbers, start=1))
    seen = model_cosines(beside, images)
    indexes = [images[:row].count(image) for row, image in enumerate(images)]
    plain, split = [normalise(text) for text in texts], Split(seed=config.seed, val_share=config.val_share)
    counts = Counter(word for text in plain for word in set(words(text)))
    common = {word for word, count in counts.items() if count > config.veto_common * len(texts)}
    held_out = [split.of(image.encode()) == "val" for image in images]
    found: list[list[tuple[Entry, str | None]]] = []
    for row, image in enumerate(images):
        own = [one for one, other in enumerate(images) if other == image]
        said = set[str]().union(*(words(plain[one]) for one in own))
        told, by_tags = told_by_tags.get(image, (set(), set()))
        total = numbers.get(len((beside.tags or {}).get(image, ())))
        beside_each_other = by_tags.union(*(pairwise(words(plain[one])) for one in own))
        asked = own if config.against == "image" else [row]
        values = similarity[asked].max(axis=0)
        admitted = [
            (images[other], indexes[other], float(values[other]), plain[other], other)
            for other in range(len(texts))
            if images[other] != image
            and plain[other] not in {plain[one] for one in asked}
            and config.floor < values[other] < config.ceiling
            and not (config.train_only and held_out[other] and not held_out[row])
        ]
        ordered = sorted(admitted, key=lambda one: (-one[2], one[0], one[1]))
        firsts = {one[3]: one for one in reversed(ordered)} if config.distinct else {}
        kept = [one for one in ordered if not config.distinct or firsts[one[3]] is one]
        # of equal texts the one that stands for them is asked, as their vectors may differ
        found.append([])
        for one in kept:
            takes = {
                "captions": (said | common).issuperset(words(one[3])),
                "tags": (told | said).issuperset(content.intersection(words(one[3])))
                and all(
                    (first, second) in beside_each_other or (second not in content and first == total)
                    for first, second in pairwise(words(one[3]))
                    if (first in content and second in content)
                    or (first in config.veto_numbers and second not in (*content, *config.veto_partitives))
                ),
                "score": seen is not None and seen[row, one[4]] > (config.veto_similarity or 0),
            }
            found[-1].append((one[:3], next((name for name in config.vetoes if takes[name]), None)))
    return found


def model_cosines(beside: Beside, images: list[str]) -> Any:
    """(captions, captions) of the picture of one and the text of another. NaN where either has no vector."""
    if beside.texts is None or not images:
        return None
    nothing = np.zeros(beside.texts.shape[1], np.float16)
    own = np.array([(beside.pictures or {}).get(image, nothing) for image in images], np.float64)
    texts = beside.texts.astype(np.float64)
    with np.errstate(invalid="ignore"):
        return (own / np.linalg.norm(own, axis=1)[:, None]) @ (texts / np.linalg.norm(texts, axis=1)[:, None]).T


def vectors_for(images: list[str], width: int, seed: int) -> Beside:
    """A vector a caption and a picture, some of them zeros."""
    rng = np.random.default_rng(seed)
    texts = rng.normal(size=(len(images), width)) * (rng.random((len(images), 1)) > 0.1)
    pictures = {
        image: (rng.normal(size=width) + 0.5).astype(np.float16) for image in sorted(set(images)) if rng.random() > 0.1
    }
    return Beside(texts=texts.astype(np.float16), pictures=pictures)


def told_of(tags: Sequence[str], config: Config) -> tuple[set[str], set[tuple[str, str]]]:
    """The words, and the pairs of words, that tags tell, as docs/explanation/negatives.md says."""
    own = [words(normalise(tag)) for tag in tags]
    counts = Counter(word for tag in own for word in set(tag))
    numbers = dict(enumerate(config.veto_numbers, start=1))
    times = {numbers[count] for count in [*counts.values(), len(own)] if count in numbers}
    beside_each_other = {(one, other) for tag in own for one in plurals(tag) for other in plurals(tag)}
    for word, count in counts.items():
        beside_each_other |= {(numbers[count], form) for form in plurals([word]) if count in numbers}
    return times.union(*(plurals(tag) for tag in own)), beside_each_other


def plurals(words: Sequence[str]) -> set[str]:
    return {word + end for word in words for end in ("", "s", "es")}


def tfidf(texts: list[str]) -> Any:
    try:
        vectors = TfidfVectorizer(dtype=np.float64).fit_transform([normalise(text) for text in texts])
    except ValueError:  # no text has a term
        return np.zeros((len(texts), len(texts)))
    return (vectors @ vectors.T).toarray()


def check(mined: pa.Table, wanted: list[list[tuple[str, int, float]]], config: Config) -> None:
    """The same captions in the same order. Within a hair of a tie, rounding may decide which comes first."""
    for row, expected in zip(mined.to_pylist(), wanted, strict=True):
        got = [(one["image_id"], one["caption_index"], one["similarity"]) for one in row["negatives"]]
        assert len(got) == min(len(expected), config.top_k)
        assert row["short"] == config.top_k - len(got)
        truth = {(image, index): value for image, index, value in expected}
        np.testing.assert_allclose([one[2] for one in got], [one[2] for one in expected[: len(got)]], atol=CLOSE)
        for image, index, value in got:
            assert truth[image, index] == pytest.approx(value, abs=CLOSE)
        values = [one[2] for one in got]
        assert values == sorted(values, reverse=True)


SCORED: dict[str, Any] = {"veto": "score", "veto_similarity": 0.1}


@pytest.mark.parametrize(
    "rule", [{}, PUBLISHED, {"val_share": 0.3}, {"veto": "captions"}, SCORED, SCORED | {"veto": ("score", "captions")}]
)
@pytest.mark.parametrize(("number", "top_k"), [(60, 5), (400, 30)])
def test_the_negatives_are_those_of_brute_force(number: int, top_k: int, rule: dict[str, Any]) -> None:
    texts, images = made_up(number, seed=number)
    config = Config(top_k=top_k, **rule)
    similarity = tfidf(texts)
    assert not (np.abs(similarity - config.ceiling) < CLOSE).any()
    beside = vectors_for(images, 7, number)
    wanted = brute_force(texts, images, similarity, config, beside)
    check(mine(texts, images, config=config, beside=beside), wanted, config)


TAGS = st.dictionaries(st.sampled_from("abcd"), st.lists(st.sampled_from([*WORDS, "red dog", "Cat"]), max_size=4))
VETOES: list[dict[str, Any]] = [
    {"veto": "captions", "veto_common": 0.4},
    {"veto": "tags"},
    {"veto": "score", "veto_similarity": 0.2},
    {"veto": ["tags", "score"], "veto_similarity": 0.2},
    {"veto": ["score", "captions", "tags"], "veto_similarity": 0.1, "veto_common": 0.4},
]
RULES = st.builds(
    lambda rule, more: rule | more,
    st.fixed_dictionaries(
        {
            "distinct": st.booleans(),
            "train_only": st.booleans(),
            "val_share": st.sampled_from([0.0, 0.5]),
            "seed": st.integers(0, 3),
        }
    ),
    st.sampled_from([{"against": "caption"}, {"against": "image"}, *VETOES]),
)


@settings(max_examples=200, deadline=None)
@given(
    corpus=st.lists(
        st.tuples(st.lists(st.sampled_from(WORDS), max_size=5).map(" ".join), st.sampled_from("abcd")), max_size=14
    ),
    top_k=st.integers(1, 4),
    rule=RULES,
    tags=TAGS,
)
def test_small_corpora_too_with_empty_texts_ties_and_repetitions(
    corpus: list[tuple[str, str]], top_k: int, rule: dict[str, Any], tags: dict[str, list[str]]
) -> None:
    texts, images = [text for text, _ in corpus], [image for _, image in corpus]
    config = build_config(Config, rule | {"top_k": top_k}, "the test")
    beside = replace(vectors_for(images, 5, top_k), tags=tags)
    similarity = tfidf(texts) if texts else np.zeros((0, 0))
    assume(not (np.abs(similarity - config.ceiling) < CLOSE).any())
    wanted = brute_force(texts, images, similarity, config, beside)
    check(mine(texts, images, config=config, beside=beside), wanted, config)
    if config.vetoes:
        counted(texts, images, judged(texts, images, similarity, config, beside), config, beside)


def counted(texts: list[str], images: list[str], every: list[Any], config: Config, beside: Beside) -> None:
    """What each veto took is counted by its name: of all that come before a list is full."""
    columns = pa.array(images, pa.string()), pa.array(texts, pa.large_string()), pa.nulls(len(texts), pa.string())
    mined = standalone.Mined.of_columns(*columns, config, beside)
    for index in mined.indexes:
        found = mine_kept(index, 0, mined.numbers, config, mined.told).vetoed
        assert tuple(found) == config.vetoes
        for row, own in enumerate(every):
            left = [one[2] for one, veto in own if veto is None]
            last = left[config.top_k - 1] if len(left) >= config.top_k else -np.inf
            for name, counts in found.items():
                took = np.array([one[2] for one, veto in own if veto == name])
                # within a hair of a tie, rounding may decide which comes first
                assert (took > last + CLOSE).sum() <= counts[row] <= (took >= last - CLOSE).sum()


def test_interberts_rule_has_a_name_and_what_is_set_beside_it_holds() -> None:
    assert build_config(Config, {"against": "interbert"}, "the test") == Config(**PUBLISHED)
    assert build_config(Config, {"against": "interbert", "distinct": True}, "the test").distinct
    with pytest.raises(ConfigError, match="against is 'interbart'"):
        build_config(Config, {"against": "interbart"}, "the test")


def test_each_choice_of_vetoes_has_one_spelling() -> None:
    given: list[Any] = ["none", [], "tags", ["tags"], ["score", "tags"], ["tags", "score", "tags"]]
    rules = [build_config(Config, {"veto": one, "veto_similarity": 0.2}, "the test") for one in given]
    assert [rule.veto for rule in rules] == ["none", "none", "tags", "tags", *2 * [("tags", "score")]]
    assert as_json(rules[0]) == as_json(Config(veto_similarity=0.2))
    with pytest.raises(ConfigError, match=r"veto is \['tag'\]"):
        build_config(Config, {"veto": ["tag"]}, "the test")


@pytest.mark.parametrize("rule", [{}, {"scorer": "embedding"}, SCORED, SCORED | {"veto": ("tags", "score")}])
def test_what_further_tables_are_asked_for_depends_on_the_settings_that_dvc_looks_at(rule: dict[str, Any]) -> None:
    seen = set[str]()

    class Spied(Config):
        def __getattribute__(self, name: str) -> Any:
            seen.add(name)
            return super().__getattribute__(name)

    config = Spied(**rule)
    seen.clear()
    negatives.inputs(config)
    assert seen & set(Config.__dataclass_fields__) <= set(negatives.ASKING)


def test_exact_ties_go_to_the_smaller_image_id_and_caption_index() -> None:
    texts = ["red dog runs fast today", "red one", "red two", "red three", "red four"]
    mined = mine(texts, ["z", "c", "a", "a", "b"], config=Config(top_k=3))
    first = mined.to_pylist()[0]["negatives"]
    assert [(one["image_id"], one["caption_index"]) for one in first] == [("a", 0), ("a", 1), ("b", 0)]


def test_bm25_is_rank_bm25s_score_over_the_captions_score_for_itself() -> None:
    texts, images = made_up(90, seed=4)
    tokens = [text.split() for text in texts]
    scores = np.array([BM25Okapi(tokens).get_scores(query) for query in tokens])
    own = scores.diagonal()[:, None]
    similarity = np.where(own > 0, scores / np.where(own > 0, own, 1), 0)
    config = Config(scorer="bm25", top_k=8)
    assert not (np.abs(similarity - config.ceiling) < CLOSE).any()
    check(mine(texts, images, config=config), brute_force(texts, images, similarity, config), config)


def captions_table(texts: list[str], images: list[str], config: Config) -> pa.Table:
    ids = pa.array(images)
    table = table_of(ids, caption_indexes(ids), texts, [None] * len(texts))
    return table.append_column("trained", pa.array([config.split.of(image.encode()) == "train" for image in images]))


@pytest.mark.parametrize(("part", "block"), [(10_000, 1), (10_000, 7), (50, 1 << 16), (7, 3)])
@pytest.mark.parametrize("rule", [PUBLISHED, {"val_share": 0.3}])
@pytest.mark.parametrize("scorer", ["tfidf", "bm25"])
def test_neither_parts_nor_blocks_nor_threads_change_a_bit(
    scorer: Any, part: int, block: int, rule: dict[str, Any]
) -> None:
    texts, images = made_up(300, seed=9)
    # A ceiling above 1, so that equal texts in different parts are close enough.
    config = Config(scorer=scorer, ceiling=1.5, top_k=9, **rule)
    whole = mined(build(captions_table(texts, images, config), config), config)
    parts = mined(build(captions_table(texts, images, config), config, part, block), config, threads=2)
    assert whole == parts
    assert any(values for _, values in whole)


def mined(index: Index, config: Config, threads: int = 1) -> list[tuple[list[int], list[float]]]:
    """(places, similarities) of every caption's negatives."""
    rows: list[tuple[list[int], list[float]]] = []
    for number, part in enumerate(index.parts):
        found = mine_captions(index, number, np.arange(len(part.captions.images)), config, threads)
        ends = np.cumsum(found.counts)[:-1]
        places, values = np.split(found.places, ends), np.split(found.similarities, ends)
        rows += [(p.tolist(), v.tolist()) for p, v in zip(places, values, strict=True)]
    return rows


def test_captions_of_different_languages_never_meet() -> None:
    mined = mine(["red dog here", "red cat there", "red bus gone"], ["a", "b", "c"], ["en", "en", "de"])
    assert [[one["image_id"] for one in row["negatives"]] for row in mined.to_pylist()] == [["b"], ["a"], []]


def test_chinese_is_compared_by_pairs_of_characters() -> None:
    mined = mine(
        ["一只红色的狗在跑", "一只红色的猫坐着", "很多人在桥上面走路"], ["a", "b", "c"], config=Config(ceiling=0.9)
    )
    assert [one["image_id"] for one in mined.to_pylist()[0]["negatives"]] == ["b"]


def test_the_example_of_the_docs() -> None:
    texts = ["red dog runs", "red dog sits", "red bus", "red tree", "cat runs"]
    first = mine(texts, list("abcde"), config=Config(top_k=2))["negatives"][0].as_py()
    assert [(one["image_id"], round(one["similarity"], 3)) for one in first] == [("e", 0.398), ("c", 0.217)]
    mined = mine([*texts, "red bus parked"], list("abcdea"), config=Config(top_k=2))["negatives"]
    for row in (0, 5):
        found = [(one["image_id"], round(one["similarity"], 3)) for one in mined[row].as_py()]
        assert found == [("e", 0.41), ("d", 0.184)]
    tags = {"a": ["cat"], "d": ["tree"]}
    mined = mine(
        [*texts, "red bus parked"], list("abcdea"), config=Config(top_k=2, veto="tags"), beside=Beside(tags=tags)
    )
    assert [one["image_id"] for one in mined["negatives"][0].as_py()] == ["d"]
    mined = mine(texts, list("abcde"), config=Config(top_k=2, max_lists=1))
    assert ["".join(one["image_id"] for one in row) for row in mined["negatives"].to_pylist()] == [
        "e",
        "",
        "db",
        "c",
        "a",
    ]


def curated(texts: list[str], images: list[str]) -> pa.Table:
    ids = sorted(set(images), key=images.index)
    captions = [
        [{"text": t, "original": t, "lang": "en"} for t, i in zip(texts, images, strict=True) if i == image]
        for image in ids
    ]
    keys = [image.encode().ljust(16, b"\0") for image in ids]
    phashes = np.random.default_rng(1).integers(0, 1 << 63, len(ids), dtype=np.uint64)
    columns = {"image_id": pa.array(keys, pa.binary(16)), "captions": pa.array(captions, pa.list_(CAPTION))}
    return pa.table({**columns, "phash": phashes})


def test_the_stage_finds_from_disk_what_mine_finds_in_memory_shard_by_shard(tmp_path: Path) -> None:
    texts, images = made_up(240, seed=2)
    whole = curated(texts, images)
    config = Config(top_k=6)
    negatives.index(InMemory("curate", [whole.slice(0, 30), whole.slice(30)]), config, tmp_path)
    tools = negatives.setup(config, tmp_path)
    parts = [negatives.process(whole.slice(start, 13), tools) for start in range(0, whole.num_rows, 13)]
    found = [found for row in pa.concat_tables(parts).to_pylist() for found in row["negatives"]]
    wanted = mine(texts, images, ["en"] * len(texts), config)["negatives"].to_pylist()
    for got, expected in zip(found, wanted, strict=True):
        named = [{**one, "image_id": one["image_id"].rstrip(b"\0").decode()} for one in got]
        assert named == expected


def test_the_stage_says_how_many_captions_are_searched_in_how_many_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mining, "BATCH", 7)  # images whose captions are searched together
    texts, images = made_up(90, seed=3)
    whole = curated(texts, images)
    negatives.index(InMemory("curate", [whole]), Config(), tmp_path)
    tools = negatives.setup(Config(), tmp_path)
    said = said_of(30, lambda: negatives.process(whole, tools))
    assert len(said) == 5
    assert np.allclose(said, [7, 14, 21, 28, 30])  # three captions an image


def test_bad_input_is_named() -> None:
    with pytest.raises(InputError, match="2 captions, 1 image ids"):
        mine(["a", "b"], ["x"])
    with pytest.raises(ConfigError, match="top_k is 0"):
        Config(top_k=0)
    with pytest.raises(ConfigError, match=r"negatives\.floor is 0\.6"):
        Config(floor=0.6)
    with pytest.raises(ConfigError, match=r"negatives\.veto is captions"):
        Config(veto="captions", against="caption")
    with pytest.raises(ConfigError, match=r"has score without negatives\.veto_similarity"):
        Config(veto="score")
    with pytest.raises(ConfigError, match="come without tags"):
        mine(["a dog"], ["x"], config=Config(veto="tags"))
    with pytest.raises(ConfigError, match="vectors of pictures"):
        mine(["a dog"], ["x"], config=Config(**SCORED), beside=Beside(texts=np.zeros((1, 2), np.float16)))
    for config in (Config(**SCORED), Config(scorer="embedding")):
        with pytest.raises(ConfigError, match="these captions come without"):
            mine(["a dog"], ["x"], config=config)


def test_mining_alone_needs_neither_torch_nor_the_pipeline() -> None:
    heavy = ["torch", "dvc", "img2dataset", "dask", "detectron2"]
    code = f"import stages.negatives, sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_texts_of_more_bytes_than_a_column_holds_are_refused_or_cut_into_more_slices(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Here 400 bytes stand for the 2 GiB that an Arrow column of strings may have."""
    texts, images = made_up(60, 4)
    config = Config(top_k=5)
    whole = mine(texts, images, config=config)
    for module in ("table", "standalone"):
        monkeypatch.setattr(f"stages.negatives.{module}.MOST_TEXT", 400)
    longest = max(len(text) for text in texts)
    columns = pa.array(images), pa.array(texts, pa.large_string()), pa.nulls(len(texts), pa.string())
    mined = standalone.Mined.of_columns(*columns, config)
    rows = max(400 // (5 * longest), 1)
    assert [cut.stop - cut.start for cut in mined.cuts()][:-1] == [rows] * (-(-len(texts) // rows) - 1)
    assert pa.concat_tables(mined.slices(1)).to_pylist() == whole.to_pylist()
    with pytest.raises(ConfigError, match="negatives of one shard have"):
        mined.slice(slice(0, len(texts)), 1)
