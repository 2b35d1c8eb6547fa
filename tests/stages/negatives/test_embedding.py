"""Hard negatives by vectors: the rule written out over all pairs in float64, and what the index refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pairloom.errors import InputError
from schemas.score import SCORE
from stages import negatives
from stages.negatives import Config, building, nearest
from stages.negatives.words import normalise, words
from tests.stages.memory import InMemory
from tests.stages.negatives.test_hubs import limited

CAPTIONS = pa.list_(pa.struct([("text", pa.string()), ("lang", pa.string())]))
Image = list[tuple[str, str | None]]  # captions: text, language


def images_of(rng: np.random.Generator, count: int) -> list[Image]:
    things = ["cat", "dog", "Cat", "cup"]  # few, so that texts come again, also with capitals
    langs = ["en", "en", "en", "de", None]
    return [
        [(f"{rng.choice(things)} {rng.integers(12)}", langs[rng.integers(5)]) for _ in range(rng.integers(1, 4))]
        for _ in range(count)
    ]


def id_of(number: int) -> bytes:
    return bytes([number]).ljust(16, b"\0")  # ids that begin in as many ways make parts of an index


def curate(images: list[Image], first: int) -> pa.Table:
    captions = [[{"text": text, "lang": lang} for text, lang in own] for own in images]
    ids = pa.array([id_of(first + number) for number in range(len(images))], pa.binary(16))
    return pa.table({"image_id": ids, "captions": pa.array(captions, CAPTIONS)})


def score(images: list[Image], first: int, vectors: dict[tuple[int, str], Any], width: int, pictures: Any) -> pa.Table:
    texts = [[text for text, _ in own] for own in images]
    flat = [np.stack([vectors[first + n, text] for text in own]) for n, own in enumerate(texts)]
    return SCORE.table(
        metadata={"score_width": str(width)}, image_id=[id_of(first + n) for n in range(len(images))], texts=texts,
        num_texts=[len(own) for own in texts], similarity=[[0.3] * len(own) for own in texts],
        heads=[[]] * len(images), text_embedding=flat,
        image_embedding=[pictures[first + n] for n in range(len(images))],
    )  # fmt: skip


def pictures_of(images: list[Image], width: int, seed: int) -> Any:
    """(images, width) float16."""
    return (np.random.default_rng(seed + 1).normal(size=(len(images), width))).astype(np.float16)


def shards_of(images: list[Image], cut: int, width: int, seed: int) -> tuple[InMemory, dict[tuple[int, str], Any]]:
    """Vectors around a few directions, so that many are near each other. They are not of length 1."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(4, width))
    vectors = {
        (number, text): (centres[rng.integers(4)] + 0.5 * rng.normal(size=width)).astype(np.float16)
        for number, own in enumerate(images)
        for text, _ in own
    }
    corpus = InMemory("curate", [curate(images[:cut], 0), curate(images[cut:], cut)])
    pictures = pictures_of(images, width, seed)
    both = score(images[:cut], 0, vectors, width, pictures), score(images[cut:], cut, vectors, width, pictures)
    corpus.others["score"] = {f"{number:05d}": table for number, table in enumerate(both)}
    return corpus, vectors


def mined(corpus: InMemory, config: Config, folder: Path) -> list[list[list[dict[str, Any]]]]:
    folder.mkdir(exist_ok=True)
    negatives.index(corpus, config, folder)
    tools = negatives.setup(config, folder)
    found = [
        negatives.process(table, corpus.others["score"][name], tools)["negatives"].to_pylist()
        for name, table in corpus.shards.items()
    ]
    return [row for shard in found for row in shard]


def vetoed(images: list[Image], vectors: dict[tuple[int, str], Any], config: Config, pictures: Any) -> Any:
    """(image, candidate's image, its text, language) -> whether a veto takes it."""
    if config.veto == "score":
        lengths = {key: np.linalg.norm(vector.astype(np.float64)) for key, vector in vectors.items()}

        def by_score(image: int, number: int, text: str, lang: str | None) -> bool:
            picture, vector = pictures[image].astype(np.float64), vectors[number, text].astype(np.float64)
            cosine = picture @ vector / np.linalg.norm(picture) / lengths[number, text]
            return bool(cosine > (config.veto_similarity or 0))

        return by_score
    own_words = {
        of: [set(words(normalise(text))) for own in images for text, lang in own if lang == of]
        for of in ("en", "de", None)
    }
    common = {
        of: {
            word
            for own in every
            for word in own
            if sum(word in each for each in every) > config.veto_common * len(every)
        }
        for of, every in own_words.items()
    }

    def by_captions(image: int, number: int, text: str, lang: str | None) -> bool:
        own = {word for told, of in images[image] if of == lang for word in words(normalise(told))}
        return (own | common[lang]).issuperset(words(normalise(text)))

    return by_captions if config.veto == "captions" else lambda *candidate: False


def by_hand(
    images: list[Image], vectors: dict[tuple[int, str], Any], config: Config, image: int, index: int, veto: Any
) -> Any:
    """(image, caption index, similarity) of the negatives of one caption, as docs/explanation/negatives.md says."""
    lang = images[image][index][1]
    own = [n for n, (_, of) in enumerate(images[image]) if of == lang] if config.against == "image" else [index]
    texts = {normalise(images[image][n][0]) for n in own}

    def unit(number: int, caption: int) -> Any:
        vector = vectors[number, images[number][caption][0]].astype(np.float64)
        return vector / np.linalg.norm(vector)

    found = []
    for number, captions in enumerate(images):
        for other, (text, of) in enumerate(captions):
            similarity = max(float(unit(image, n) @ unit(number, other)) for n in own)
            trained = not config.split.holds_out or config.split.of(id_of(number)) == "train"
            clean = trained or config.split.of(id_of(image)) != "train" or not config.train_only
            admitted = number != image and of == lang and normalise(text) not in texts and clean
            if admitted and np.float32(config.floor) < np.float32(similarity) < np.float32(config.ceiling):
                found.append((-similarity, number, other, normalise(text)))
    kept: list[Any] = []
    for similarity, number, other, text in sorted(found):
        if not (config.distinct and text in {one[3] for one in kept}):
            kept.append((-similarity, number, other, text))
    # of equal texts the one that stands for them is asked, as their vectors may differ
    left = [one for one in kept if not veto(image, one[1], images[one[1]][one[2]][0], lang)]
    return [(number, other, similarity) for similarity, number, other, _ in left]


# of equal texts in two parts the one that is less similar was kept
IN_TWO_PARTS: dict[str, Any] = {
    "seed": 37, "count": 37, "width": 16, "against": "image", "distinct": True, "top_k": 3, "limits": (0.0, 2.0),
    "val_share": 0.4, "part": 5, "most": None,
}  # fmt: skip


@settings(max_examples=25)
@example(**IN_TWO_PARTS)
@given(
    seed=st.integers(0, 999), count=st.integers(2, 40), width=st.sampled_from([3, 16]),
    against=st.sampled_from(["image", "caption", "captions", "score"]), distinct=st.booleans(),
    top_k=st.sampled_from([1, 3, 30]), limits=st.sampled_from([(0.0, 2.0), (0.2, 0.8)]),
    val_share=st.sampled_from([0.0, 0.4]), part=st.sampled_from([5, 1000]), most=st.sampled_from([None, 2]),
)  # fmt: skip
def test_lists_are_those_of_all_pairs(
    seed: int, count: int, width: int, limits: tuple[float, float], part: int, against: str, most: int | None,
    tmp_path_factory: Any, **rule: Any
) -> None:  # fmt: skip
    """against: or a veto, which is against the image."""
    rule["veto_common"], rule["veto_similarity"] = 0.2, 0.1
    rule |= {"against": against} if against in ("image", "caption") else {"veto": against}
    rule["floor"], rule["ceiling"] = limits
    config = Config(scorer="embedding", near_distance=None, max_lists=most, **rule)
    images = images_of(np.random.default_rng(seed), count)
    corpus, vectors = shards_of(images, count // 2, width, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(building.write, "__defaults__", (part,))  # captions of a part of the index
        lists = mined(corpus, config, tmp_path_factory.mktemp("index"))
    veto = vetoed(images, vectors, config, pictures_of(images, width, seed))
    names = [(number, index) for number, own in enumerate(lists) for index in range(len(own))]
    whole = [by_hand(images, vectors, config, *name, veto) for name in names]
    if most is not None:
        whole = limited(names, [own[: 2 * config.top_k] for own in whole], most, config.top_k)
    expected = {name: own[: config.top_k] for name, own in zip(names, whole, strict=True)}
    for number, own in enumerate(lists):
        for index, found in enumerate(own):
            wanted = expected[number, index]
            got = [(one["image_id"][0], one["caption_index"]) for one in found]
            assert got == [(image, caption) for image, caption, _ in wanted]
            np.testing.assert_allclose([one["similarity"] for one in found], [s for *_, s in wanted], atol=1e-6)
            assert [one["text"] for one in found] == [images[image][caption][0] for image, caption, _ in wanted]


def test_bounds_are_never_below_the_cosine() -> None:
    rng = np.random.default_rng(0)
    unit = rng.normal(size=(300, 40)) * np.exp(-np.arange(40) / 4)
    unit = (unit / np.linalg.norm(unit, axis=1, keepdims=True)).astype(np.float32)
    short = nearest.shortened(unit, nearest.axes(unit, 6))
    bounds, cosines = short @ short.T, unit.astype(np.float64) @ unit.T
    assert short.shape == (300, 7)
    assert (bounds >= cosines - nearest.SLACK / 2).all()
    assert np.abs(bounds - cosines).mean() < 0.1  # and they tell something


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = Config(scorer="embedding", near_distance=None, ceiling=0.9)
    corpus, _ = shards_of(images_of(np.random.default_rng(1), 60), 25, 16, 1)
    whole = mined(corpus, config, tmp_path / "whole")
    for name, value in (("QUERIES", 3), ("CANDIDATES", 7), ("AXES", 2)):
        monkeypatch.setattr(nearest, name, value)
    assert mined(corpus, config, tmp_path / "parts") == whole


def test_captions_that_came_from_another_shard_are_found_and_others_have_no_list(tmp_path: Path) -> None:
    images: list[Image] = [[("a cat", "en")], [("a dog", "en")], [("a cup", "en")]]
    corpus, _ = shards_of(images, 1, 8, 2)
    first, second = corpus.others["score"].values()
    corpus.others["score"] = {"00000": second, "00001": first}  # each caption's vector is in the other shard
    config = Config(scorer="embedding", near_distance=None, ceiling=2.0, floor=0.0)
    everything = mined(corpus, config, tmp_path / "all")
    corpus.others["score"] = {"00000": second, "00001": first.slice(0, 0)}
    left = mined(corpus, config, tmp_path / "left")
    assert left[0] == [[]]
    names = {one["text"] for row in left for own in row for one in own}
    assert "a cat" not in names
    assert names <= {one["text"] for row in everything for own in row for one in own}


def test_without_vectors_it_says_which_setting_is_missing(tmp_path: Path) -> None:
    corpus, _ = shards_of([[("a cat", "en")], [("a dog", "en")]], 1, 8, 2)
    name = "00000"
    table = corpus.others["score"][name]
    place = table.schema.get_field_index("text_embedding")
    empty = table.set_column(place, table.schema.field(place), pa.nulls(table.num_rows, pa.large_binary()))
    corpus.others["score"][name] = empty
    with pytest.raises(InputError, match=r"no vectors of texts[\s\S]*text_embedding: true"):
        negatives.index(corpus, Config(scorer="embedding", near_distance=None), tmp_path)
    place = table.schema.get_field_index("image_embedding")
    empty = table.set_column(place, table.schema.field(place), pa.nulls(table.num_rows, pa.large_binary()))
    corpus.others["score"][name] = empty
    (tmp_path / "score").mkdir()
    with pytest.raises(InputError, match=r"no vectors of pictures[\s\S]*image_embedding: true"):
        negatives.index(corpus, Config(veto="score", veto_similarity=0.3, near_distance=None), tmp_path / "score")
