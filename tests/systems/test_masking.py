"""Draws of words and regions against their laws: chi-squared, enumeration, and what must never leak."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, chisquare

from pairloom.loader.batch import HIDDEN, IGNORE, ITSELF, Example, Pixels, Regions, Words
from pairloom.loader.examples import RegionColumns
from pairloom.loader.tokenizer import Tokenizer, fitting
from systems import recipes
from systems.objectives.drawing import By, draw_tokens, draw_words, span_length
from systems.objectives.masking import RegionMasking, mask_regions, overlaps

DRAWS = 20_000


def regions(boxes: np.ndarray[Any, Any]) -> Regions:
    sides = boxes[:, 2:] - boxes[:, :2]
    seven = np.concatenate([boxes, sides, sides.prod(axis=1, keepdims=True)], axis=1).astype(np.float32)
    return Regions(np.zeros((len(boxes), 2), np.float16), seven, np.zeros(len(boxes), bool))


def apart(count: int) -> Regions:
    """Boxes in a row that do not touch."""
    left = np.arange(count) / count
    return regions(np.stack([left, left * 0, left + 0.5 / count, left * 0 + 1], axis=1))


def test_a_span_starts_and_ends_as_two_uniform_draws_say() -> None:
    count, rng = 5, np.random.default_rng(0)
    seen = np.zeros((count, count + 1))
    for _ in range(DRAWS):
        chosen = np.flatnonzero(draw_words(count, "span", 0.15, rng))
        assert (np.diff(chosen) == 1).all()  # one stretch
        seen[chosen[0], len(chosen)] += 1
    law = np.zeros_like(seen)
    for start in range(count):  # InterBERT's code: start and length uniform, cut at the end
        for length in range(1, count + 1):
            law[start, min(length, count - start)] += 1 / count**2
    assert (seen[law == 0] == 0).all()
    assert chisquare(seen[law > 0], law[law > 0] * DRAWS).pvalue > 1e-3


def test_an_anchor_hides_none_to_two_words_after_it() -> None:
    rng, after = np.random.default_rng(1), np.zeros(3)
    for _ in range(DRAWS):  # so rare that a second anchor among three words hardly comes
        chosen = draw_words(9, "anchors", 0.0, rng)  # none is drawn, so one of the nine is the anchor
        first = int(np.flatnonzero(chosen)[0])
        if first <= 6:
            after[chosen.sum() - 1] += 1
    assert chisquare(after).pvalue > 1e-3


@given(count=st.integers(1, 60), seed=st.integers(0, 999), share=st.floats(0.05, 0.9))
def test_geometric_spans_hide_just_the_share(count: int, seed: int, share: float) -> None:
    chosen = draw_words(count, "geometric", share, np.random.default_rng(seed))
    assert chosen.sum() == max(1, int(np.ceil(share * count)))  # rounded up, as SpanBERT's code does


def test_the_length_of_a_span_is_geometric_among_one_to_ten() -> None:
    """SpanBERT gives the mean as 3.8."""
    rng = np.random.default_rng(2)
    lengths = np.bincount([span_length(rng) for _ in range(DRAWS)], minlength=11)[1:]
    law = np.array([0.8**n for n in range(10)])
    law /= law.sum()
    assert round(float(law @ np.arange(1, 11)), 1) == 3.8
    assert chisquare(lengths, law * DRAWS).pvalue > 1e-3
    drawn = [span_length(np.random.default_rng(seed)) for seed in range(200)]
    assert drawn == [1 + np.random.default_rng(seed).choice(10, p=law) for seed in range(200)]


@pytest.mark.parametrize("by", ["token", "word"])
@pytest.mark.parametrize("count", [5, 8])
def test_without_a_guarantee_a_short_caption_often_stays_whole(by: By, count: int) -> None:
    """0.85 to the power of its words: 44 % of five, 27 % of eight, and just 15 % are hidden in all."""
    rng, places = np.random.default_rng(3), np.arange(count)
    hidden = np.array([draw_tokens(places, by, 0.15, rng, some=False).sum() for _ in range(DRAWS)])
    whole = (hidden == 0).sum()
    assert chisquare([whole, DRAWS - whole], np.array([0.85**count, 1 - 0.85**count]) * DRAWS).pvalue > 1e-3
    assert binomtest(int(hidden.sum()), DRAWS * count, 0.15).pvalue > 1e-3
    assert all(draw_tokens(places, by, 0.15, rng).any() for _ in range(100))


@pytest.mark.parametrize(
    ("name", "guaranteed"),
    [("uniter", True), ("lxmert", False), ("oscar", False), ("vinvl", False), ("vilt", False), ("vilbert", False)],
)
def test_recipes_guarantee_a_hidden_word_where_the_published_code_does(name: str, guaranteed: bool) -> None:
    assert recipes.load(name).objectives["mlm"].settings.at_least_one == guaranteed


@pytest.mark.parametrize("by", ["word", "anchors", "span", "geometric"])
@given(seed=st.integers(0, 10_000), text=st.text(alphabet="abcdef ,.", max_size=40))
def test_words_are_hidden_whole_by_the_tokenizers_own_offsets(by: By, seed: int, text: str) -> None:
    pieces = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4} | {
        piece: 5 + i for i, piece in enumerate([*"abcdef,.", *(f"##{c}" for c in "abcdef")])
    }
    backend = tokenizers.Tokenizer(tokenizers.models.WordPiece(pieces, unk_token="[UNK]"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    words = Tokenizer(backend, 99).words(text)
    chosen = draw_tokens(words.word_ids_T, by, 0.15, np.random.default_rng(seed))
    encoding = backend.encode(text, add_special_tokens=False)
    drawn = {token: bool(chosen[token + 1]) for token in range(len(encoding.ids))}
    for word in {number for number in encoding.word_ids if number is not None}:
        first, last = encoding.word_to_tokens(word) or (0, 0)
        assert last > first
        assert len({drawn[token] for token in range(first, last)}) == 1
    assert not chosen[0]
    assert not chosen[-1]
    assert any(drawn.values()) == bool(drawn)


@given(
    sizes=st.lists(st.integers(1, 5), max_size=12), share=st.floats(0, 1), most=st.integers(1, 12),
    seed=st.integers(0, 10_000),
)  # fmt: skip
def test_counted_words_are_hidden_whole_until_no_other_fits(
    sizes: list[int], share: float, most: int, seed: int
) -> None:
    word_ids = np.pad(np.repeat(np.arange(len(sizes)), sizes), 1, constant_values=-1)
    chosen = draw_tokens(word_ids, "counted", share, np.random.default_rng(seed), most=most)
    left = min(max(1, round(share * len(word_ids))), most) - chosen.sum()
    assert left >= 0
    assert not chosen[word_ids < 0].any()
    for word, size in enumerate(sizes):
        hidden = set(chosen[word_ids == word].tolist())
        assert len(hidden) == 1
        assert hidden == {True} or size > left


def masked_alone(given_regions: Regions, masking: RegionMasking, seed: int) -> Regions:
    """Of one image."""
    alone = RegionColumns.united([given_regions])
    return mask_regions(alone, masking, [np.random.default_rng(seed)]).split()[0]


def test_regions_are_hidden_replaced_and_left_at_the_published_shares() -> None:
    masking = RegionMasking(probability=0.15, at_least_one=False, hidden=0.8, replaced=0.1)  # LXMERT's code
    hidden = masked_alone(apart(200_000), masking, 0)
    masked, shown = hidden.masked_R, hidden.shown_R
    assert shown is not None
    counts = [(shown[masked] == HIDDEN).sum(), (shown[masked] >= 0).sum(), (shown[masked] == ITSELF).sum()]
    assert chisquare([masked.sum(), (~masked).sum()], [0.15 * len(masked), 0.85 * len(masked)]).pvalue > 1e-3
    assert chisquare(counts, np.array([0.8, 0.1, 0.1]) * masked.sum()).pvalue > 1e-3
    assert (shown[~masked] == ITSELF).all()


def brute_iou(one: np.ndarray[Any, Any], two: np.ndarray[Any, Any]) -> float:
    """On a grid of cells, by counting."""
    cells = [{(x, y) for x in range(int(b[0]), int(b[2])) for y in range(int(b[1]), int(b[3]))} for b in (one, two)]
    return len(cells[0] & cells[1]) / len(cells[0] | cells[1])


corners = st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(1, 5), st.integers(1, 5))


@given(boxes=st.lists(corners, min_size=1, max_size=6), seed=st.integers(0, 99), predict=st.booleans())
def test_no_shown_region_gives_away_a_hidden_one(boxes: list[tuple[int, ...]], seed: int, predict: bool) -> None:
    grid = np.array([[x, y, x + w, y + h] for x, y, w, h in boxes], float)
    given_regions = regions(grid / 10)
    iou = overlaps(given_regions.boxes_R7, given_regions.boxes_R7)
    for i, one in enumerate(grid):
        for j, two in enumerate(grid):
            assert iou[i, j] == pytest.approx(brute_iou(one, two), abs=1e-5)
    masking = RegionMasking(probability=0.3, overlap=0.4, predict_overlapping=predict)
    hidden = masked_alone(given_regions, masking, seed)
    assert hidden.shown_R is not None
    seen = hidden.shown_R == ITSELF
    drawn = ~seen if predict else hidden.masked_R
    assert drawn.any()
    assert (hidden.masked_R <= ~seen).all()
    if not predict:
        assert not (iou[np.ix_(hidden.masked_R, seen)] >= 0.4).any()


def test_two_texts_lose_tokens_one_by_one_from_the_longer_as_berts_code_does() -> None:
    for first in range(9):
        for second in range(9):
            for room in range(17):
                a, b = ["a"] * first, ["b"] * second
                while len(a) + len(b) > room:  # _truncate_seq_pair of BERT's run_classifier.py
                    (a if len(a) > len(b) else b).pop()
                assert fitting([first, second], room) == [len(a), len(b)]


def test_a_second_text_has_a_segment_and_words_of_its_own() -> None:
    backend = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({w: i for i, w in enumerate(["[PAD]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c"])})
    )
    backend.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    words = Tokenizer(backend, 8).words("a b", "c a")
    assert words.ids_T.tolist() == [1, 4, 5, 2, 6, 4, 2]
    assert words.segments_T.tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert words.word_ids_T.tolist() == [-1, 0, 1, -1, 2, 3, -1]


def test_mlim_hides_words_or_cells_or_a_few_of_both_and_every_hidden_word_is_the_mask() -> None:
    """Its modality-aware masking: none of the words that are drawn stays or becomes another."""
    recipe = recipes.load("mlim")
    part: Any = recipe.objectives["reconstruction"]
    chosen, mask, count = part.settings, 4, 400
    units = SimpleNamespace(settings=recipe.units.settings)
    make: Any = SimpleNamespace(units=units, tokenizer=SimpleNamespace(mask=mask, ordinary=np.arange(5, 90)))
    ids = np.full(count, 50)
    picture = Pixels(np.zeros((3, 20 * chosen.stride, 20 * chosen.stride), np.float32))
    words = Words(ids, np.arange(count), np.full(count, IGNORE), ids * 0)
    row: Any = None
    found = set()
    for seed in range(30):
        example = Example(b"", 0, words, picture)
        shown = part.module.prepare(example, row, make, chosen, np.random.default_rng(seed))
        hidden = shown.words.labels_T != IGNORE
        assert (shown.words.ids_T == np.where(hidden, mask, 50)).all()
        cells = shown.targets["masked_U"]
        found.add(tuple(0 if not some.any() else chosen.much if some.mean() > 0.3 else chosen.light
                        for some in (cells, hidden)))  # fmt: skip
    assert found == {(chosen.much, 0), (0, chosen.much), (chosen.light, chosen.light)}
    assert chosen.light < 0.3 < chosen.much
