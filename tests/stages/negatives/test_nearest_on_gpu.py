"""The search with products of a torch device gives the lists of nearest.py, which other tests hold to all pairs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pairloom.errors import ConfigError
from stages.negatives import Config, nearest, nearest_on_gpu, wants_gpu
from stages.negatives.nearest import Facts, Queries, Rule, Vectors, axes, of_length_one, shortened
from tests.devices import DEVICES


def drawn(rng: np.random.Generator, count: int, width: int) -> Vectors:
    """Around a few directions, some equal, some of zeros."""
    values = rng.normal(size=(5, width))[rng.integers(5, size=count)] + 0.4 * rng.normal(size=(count, width))
    values[rng.random(count) < 0.1] = values[0]
    values[rng.random(count) < 0.1] = 0
    halves = values.astype(np.float16).view(np.uint16)
    unit = of_length_one(halves)
    lengths = np.linalg.norm(halves.view(np.float16).astype(np.float64), axis=1)
    scales = np.divide(1, lengths, out=np.zeros(count), where=lengths > 0).astype(np.float32)
    return Vectors(halves, scales, shortened(unit.astype(np.float32), axes(unit, 4)))


@pytest.mark.parametrize("device", DEVICES)
@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 9999), count=st.integers(1, 120), top_k=st.sampled_from([1, 3, 30]), distinct=st.booleans(),
    limits=st.sampled_from([(0.0, 2.0), (0.2, 0.8), (-1.5, 0.5)]), at_once=st.sampled_from([1, 7, 4096]),
)  # fmt: skip
def test_it_gives_the_same_lists(
    device: str, seed: int, count: int, top_k: int, distinct: bool, limits: tuple[float, float], at_once: int
) -> None:
    rng = np.random.default_rng(seed)
    vectors = drawn(rng, count, 12)
    documents, images = rng.integers(count, size=count), np.sort(rng.integers(count, size=count))
    facts = Facts(images.astype(np.int32), documents.astype(np.int32), rng.random(count) < 0.8)
    asked = np.sort(rng.integers(count, size=rng.integers(1, 60)))
    groups = np.unique(np.concatenate([[0, len(asked)], rng.integers(len(asked), size=20)]))
    own = Vectors(*(array[asked] for array in vectors))
    kinds, least = rng.random(len(groups) - 1) < 0.5, rng.choice([-1.0, 0.3], len(groups) - 1).astype(np.float32)
    queries = Queries(own, images[asked], documents[asked], groups, kinds, least)
    rule = Rule(np.float32(limits[0]), np.float32(limits[1]), top_k, distinct)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nearest_on_gpu, "QUERIES", at_once)
        patch.setattr(nearest_on_gpu, "CANDIDATES", 8)
        patch.setattr(nearest_on_gpu, "MOST_CANDIDATES", 32)
        found = nearest_on_gpu.search(device, vectors, facts, queries, rule)
    expected = nearest.search(vectors, facts, queries, rule)
    np.testing.assert_array_equal(found.counts, expected.counts)
    listed = np.arange(top_k) < found.counts[:, None]
    np.testing.assert_array_equal(found.places[listed], expected.places[listed])
    np.testing.assert_array_equal(found.similarities[listed], expected.similarities[listed])


def test_a_gpu_is_asked_for_by_vectors_alone() -> None:
    assert wants_gpu(Config(scorer="embedding"))
    assert not wants_gpu(Config(scorer="embedding", device="cpu"))
    assert not wants_gpu(Config())


def test_a_device_that_is_not_there_is_refused_and_none_is_needed_without_torch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ConfigError, match=r"negatives\.device is 'cuda:77'"):
        nearest_on_gpu.device_of("cuda:77")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(nearest_on_gpu, "find_spec", lambda name: None)
    assert nearest_on_gpu.device_of("auto") == "cpu"
