"""The most probable classes against a sort of all of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stages.regions.ranking import most_probable
from stages.regions.suppression import Array
from tests.devices import DEVICES

PROBS = st.sampled_from([0.0, 0.001, 0.25, 0.5, 0.75, 1.0]).map(lambda x: float(np.float32(x)))  # many are equal


def sorted_by_hand(probs: Array, width: int) -> list[list[int]]:
    return [sorted(range(len(row)), key=lambda c: (-row[c], c))[:width] for row in probs.tolist()]


@given(
    probs=st.tuples(st.integers(0, 5), st.integers(1, 40)).flatmap(lambda s: arrays(np.float32, s, elements=PROBS)),
    share=st.floats(0, 1),
)
def test_the_best_come_first_and_equal_ones_by_their_ids(probs: Array, share: float) -> None:
    width = round(share * probs.shape[1])
    values, ids = most_probable(torch.from_numpy(probs), width)
    assert ids.tolist() == sorted_by_hand(probs, width)
    assert np.array_equal(values, np.take_along_axis(probs, ids, axis=1))


def test_what_is_not_a_number_is_kept_and_does_no_harm() -> None:
    """The stage then says that the picture has NaN."""
    probs = np.random.default_rng(0).random((3, 400), np.float32)
    probs[0, 7], probs[1], probs[2] = np.nan, -np.float32(np.nan), np.inf
    values, ids = most_probable(torch.from_numpy(probs), 20)
    assert ((ids >= 0) & (ids < 400)).all()
    assert [len(set(row)) for row in ids.tolist()] == [20, 20, 20]
    assert not np.isfinite(values).all(axis=1).any()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("width", [0, 16, 64, 1000, 1600])
def test_of_sixteen_hundred_different_classes_they_are_torchs(width: int, device: str) -> None:
    steps = np.random.default_rng(0).permuted(np.tile(np.arange(1600), (7, 1)), axis=1)
    probs = torch.from_numpy(steps.astype(np.float32) / 100).softmax(dim=1).to(device)
    values, ids = most_probable(probs, width)
    wanted_values, wanted_ids = probs.topk(width, dim=1)
    assert np.array_equal(values, wanted_values.cpu().numpy())
    assert np.array_equal(ids, wanted_ids.cpu().numpy())
