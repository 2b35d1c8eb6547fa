"""Recall against a sort of all candidates, as VSE++'s evaluation does it, and over folds against its own slices."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pairloom.metrics import retrieval


def sorted_ranks(scores_IN: np.ndarray, owner_N: np.ndarray) -> tuple[list[int], list[int]]:
    """(rank of each caption's image, best rank of each image's captions), by sorting."""
    images = [int(np.flatnonzero(np.argsort(-scores_IN[:, n]) == owner_N[n])[0]) + 1 for n in range(len(owner_N))]
    texts = []
    for i, row in enumerate(scores_IN):
        order = np.argsort(-row)
        texts.append(1 + min(int(np.flatnonzero(order == n)[0]) for n in np.flatnonzero(owner_N == i)))
    return images, texts


@pytest.mark.parametrize("at_once", [1, 50, 1 << 22])
@given(st.integers(0, 10_000))
def test_ranks_are_those_of_a_sort_of_all_candidates(at_once: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    images = int(rng.integers(1, 12))
    owner_N = rng.permutation(np.repeat(np.arange(images), rng.integers(1, 6, images)))  # one to five, in any order
    scores_IN = rng.permutation(images * len(owner_N)).reshape(images, -1).astype(np.float32)  # no ties
    scores, owner = torch.from_numpy(scores_IN), torch.from_numpy(owner_N)
    wanted = sorted_ranks(scores_IN, owner_N)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retrieval, "AT_ONCE", at_once)  # in blocks of one row, of some and of all
        assert retrieval.text_ranks(scores, owner).tolist() == wanted[0]
        assert retrieval.image_ranks(scores, owner).tolist() == wanted[1]


def test_a_tie_counts_against_the_right_one() -> None:
    found = retrieval.both_ways(torch.zeros(20, 100), torch.arange(20).repeat_interleave(5))
    assert retrieval.recall_sum(found) == 0


def test_five_folds_are_five_tests_of_their_own() -> None:
    rng = np.random.default_rng(0)
    owner_N = torch.arange(50).repeat_interleave(5)
    scores_IN = torch.from_numpy(rng.normal(size=(50, 250)).astype(np.float32))
    scores_IN[owner_N, torch.arange(250)] += 2
    found = list(retrieval.folds(scores_IN, owner_N, 10))
    assert len(found) == 5
    recalls = []
    for first in range(0, 50, 10):
        block = scores_IN[first : first + 10, 5 * first : 5 * first + 50].numpy()
        images, texts = sorted_ranks(block, np.repeat(np.arange(10), 5))
        recalls.append((np.mean(np.array(images) <= 5), np.mean(np.array(texts) <= 5)))
    averaged = retrieval.mean(found)
    assert averaged["text_to_image"]["r_at_5"] == pytest.approx(np.mean([one for one, _ in recalls]))
    assert averaged["image_to_text"]["r_at_5"] == pytest.approx(np.mean([other for _, other in recalls]))
    whole = retrieval.both_ways(scores_IN, owner_N)
    assert retrieval.recall_sum(averaged) > retrieval.recall_sum(whole)  # among fewer candidates


def test_what_does_not_fill_a_fold_is_left_out() -> None:
    assert len(list(retrieval.folds(torch.rand(25, 25), torch.arange(25), 10))) == 2
