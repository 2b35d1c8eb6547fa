"""Losses against torch on flattened copies, exact optimal transport and arithmetic by hand. Masks against their law."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import ot
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from pairloom.loader.batch import IGNORE, RegionBatch, Words
from pairloom.metrics.retrieval import chance_of_any, image_to_text, text_to_image
from systems.objectives.alignment import alignment_distance, transport_plan, word_region_alignment
from systems.objectives.contrastive import info_nce, same_image
from systems.objectives.drawing import draw_places
from systems.objectives.masking import mask_all_words
from systems.objectives.mlm import hidden_words
from systems.objectives.mrc import region_kl
from systems.objectives.mrfr import feature_error, mean_over
from trainer.contract import Scored


@given(eligible=st.lists(st.booleans(), max_size=30), probability=st.floats(0, 1), seed=st.integers(0, 99))
def test_only_eligible_places_are_drawn_and_at_least_one(eligible: list[bool], probability: float, seed: int) -> None:
    places = np.array(eligible, bool)
    chosen = draw_places(places, probability, np.random.default_rng(seed))
    assert not (chosen & ~places).any()
    assert chosen.any() == places.any()


def test_words_are_hidden_at_the_published_rates() -> None:
    tokenizer: Any = SimpleNamespace(mask=4, ordinary=np.arange(100, 1100))
    ids = np.full(400_000, 50)
    words = Words(ids, np.arange(len(ids)), np.full(len(ids), IGNORE), np.zeros_like(ids))
    hidden = mask_all_words(words, [len(ids)], tokenizer, 0.15, [np.random.default_rng(0)])
    drawn = hidden.labels_T != IGNORE
    shown = hidden.ids_T[drawn]
    counts = [(shown == 4).sum(), (shown >= 100).sum(), (shown == 50).sum()]
    assert chisquare([drawn.sum(), (~drawn).sum()], [0.15 * len(ids), 0.85 * len(ids)]).pvalue > 1e-3
    assert chisquare(counts, np.array([0.8, 0.1, 0.1]) * drawn.sum()).pvalue > 1e-3
    assert (hidden.ids_T[~drawn] == 50).all()
    assert (hidden.labels_T[drawn] == 50).all()


def test_special_tokens_are_never_hidden() -> None:
    tokenizer: Any = SimpleNamespace(mask=4, ordinary=np.arange(100, 200))
    words = Words(np.array([2, 50, 51, 3]), np.array([-1, 0, 1, -1]), np.full(4, IGNORE), np.zeros(4, int))
    for seed in range(200):
        hidden = mask_all_words(words, [4], tokenizer, 0.9, [np.random.default_rng(seed)])
        assert hidden.ids_T[[0, 3]].tolist() == [2, 3]
        assert hidden.labels_T[[0, 3]].tolist() == [IGNORE, IGNORE]


def test_mlm_is_torchs_cross_entropy_of_the_hidden_words() -> None:
    logits, labels = torch.randn(2, 3, 7), torch.tensor([[IGNORE, 2, IGNORE], [6, IGNORE, 0]])
    wanted = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORE)
    found, positions = hidden_words(labels)
    torch.testing.assert_close(Scored.of_classes(logits.flatten(0, 1)[positions], found).loss, wanted)
    assert Scored.of_classes(torch.zeros(0, 7), torch.zeros(0, dtype=torch.long)).loss == 0


def regions_of(mask: torch.Tensor, masked: torch.Tensor, features: torch.Tensor | None = None) -> RegionBatch:
    features = torch.zeros(*mask.shape, 2) if features is None else features
    return RegionBatch(features, torch.zeros(*mask.shape, 7), mask, masked)


def test_mrfr_by_hand() -> None:
    predicted = torch.tensor([[[1.0, 2.0], [0.0, 0.0], [5.0, 5.0]]])
    target = torch.tensor([[[0.0, 0.0], [9.0, 9.0], [5.0, 5.0]]])
    square, smooth = (feature_error(predicted, target, error) for error in ("square", "smooth_l1"))
    torch.testing.assert_close(square, torch.tensor([[2.5, 81.0, 0.0]]))  # (1 + 4) / 2, (81 + 81) / 2
    torch.testing.assert_close(smooth, torch.tensor([[1.0, 8.5, 0.0]]))  # (1/2 + 2 − 1/2) / 2, 9 − 1/2
    masked, nothing = torch.tensor([[True, False, False]]), torch.zeros(1, 3, dtype=torch.bool)
    regions = regions_of(torch.tensor([[True, True, False]]), masked)  # the third is padding
    assert float(mean_over(square, masked, regions, "masked")) == pytest.approx(2.5)
    assert float(mean_over(square, masked, regions, "masked of all")) == pytest.approx(1.25)
    assert float(mean_over(square, masked, regions, "all")) == pytest.approx((2.5 + 81) / 2)
    assert float(mean_over(square, nothing, regions, "masked")) == 0


@pytest.mark.parametrize("top", [2, 6])
def test_mrc_kl_is_torchs_kl_of_the_whole_distribution(top: int) -> None:
    logits, classes = torch.randn(2, 3, 6), 6
    ids = torch.stack([torch.randperm(classes)[:top] for _ in range(6)]).view(2, 3, top)
    values = torch.rand(2, 3, top).softmax(-1) * (1.0 if top == classes else 0.7)
    whole = torch.full((2, 3, classes), 0.0 if top == classes else 0.3 / (classes - top)).scatter(-1, ids, values)
    masked = torch.tensor([[True, False, True], [False, True, False]])
    wanted = F.kl_div(logits.log_softmax(-1)[masked], whole[masked], reduction="batchmean")
    torch.testing.assert_close(region_kl(logits, ids, values)[masked].mean(), wanted, rtol=1e-4, atol=1e-5)


def test_info_nce_by_hand_and_without_another_caption_of_the_same_image() -> None:
    logits = torch.tensor([[2.0, 0.0], [1.0, 3.0]])
    rows = -math.log(math.exp(2) / (math.exp(2) + 1)) - math.log(math.exp(3) / (math.exp(1) + math.exp(3)))
    columns = -math.log(math.exp(2) / (math.exp(2) + math.e)) - math.log(math.exp(3) / (1 + math.exp(3)))
    assert float(info_nce(logits)) == pytest.approx((rows + columns) / 4)
    assert float(info_nce(logits, same_image(torch.tensor([5, 5])))) == 0  # only the right pair is left
    assert float(info_nce(torch.ones(1, 1))) == 0


@settings(deadline=None, max_examples=30)
@given(words=st.integers(1, 5), regions=st.integers(1, 5), seed=st.integers(0, 999))
def test_the_transport_plan_costs_what_the_cheapest_one_costs(words: int, regions: int, seed: int) -> None:
    cost = torch.rand(1, words, regions, generator=torch.Generator().manual_seed(seed))
    full = torch.ones(1, words, dtype=torch.bool), torch.ones(1, regions, dtype=torch.bool)
    plan = transport_plan(cost, *full, beta=0.1, iterations=2000)
    torch.testing.assert_close(plan.sum(dim=1)[0], torch.full((regions,), 1 / regions), atol=1e-3, rtol=0)
    exact = ot.emd2(np.full(words, 1 / words), np.full(regions, 1 / regions), cost[0].double().numpy())
    assert float((plan * cost).sum()) == pytest.approx(exact, abs=5e-3)


def test_a_caption_without_words_has_no_distance_and_a_gradient_that_is_finite() -> None:
    words, regions = torch.randn(2, 3, 8, requires_grad=True), torch.randn(2, 4, 8, requires_grad=True)
    seen = torch.tensor([[True] * 3, [False] * 3])
    distance = alignment_distance(words, regions, seen, torch.ones(2, 4, dtype=torch.bool))
    assert float(distance[1].detach()) == 0
    torch.testing.assert_close(distance[:1], alignment_distance(words[:1], regions[:1], seen[:1], torch.ones(1, 4) > 0))
    distance.sum().backward()
    for part in (words, regions):
        assert part.grad is not None
        assert part.grad.isfinite().all()


def test_padding_changes_no_alignment_distance() -> None:
    words, regions = torch.randn(1, 3, 8), torch.randn(1, 4, 8)
    full = torch.ones(1, 3, dtype=torch.bool), torch.ones(1, 4, dtype=torch.bool)
    padded_words, padded_regions = F.pad(words, (0, 0, 0, 2)), F.pad(regions, (0, 0, 0, 3), value=5.0)
    padded = F.pad(full[0], (0, 2)), F.pad(full[1], (0, 3))
    alone = alignment_distance(words, regions, *full)
    torch.testing.assert_close(alignment_distance(padded_words, padded_regions, *padded), alone)
    assert float(word_region_alignment(torch.tensor([0.5, 0.8]), torch.tensor([True, False]))) == pytest.approx(-0.15)


def test_retrieval_figures_by_hand() -> None:
    owner = torch.tensor([0, 0, 1])  # three captions of two images
    scores = torch.tensor([[9.0, 1.0, 2.0], [1.0, 5.0, 3.0]])
    found = text_to_image(scores, owner)
    assert found["r_at_1"] == pytest.approx(2 / 3)  # the second caption prefers the wrong image
    assert image_to_text(scores, owner)["r_at_1"] == pytest.approx(1 / 2)  # image 1 prefers the second caption
    assert text_to_image(torch.zeros(2, 3), owner)["r_at_1"] == 0  # all alike finds nothing
    assert chance_of_any(1, 2, 3) == pytest.approx(2 / 3)
    assert chance_of_any(2, 1, 3) == pytest.approx(2 / 3)
