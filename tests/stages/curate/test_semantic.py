"""Images that mean the same: cosines within clusters against brute force, clusters against scikit-learn's."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.cluster import KMeans

from stages.curate import semantic


def drawn(count: int, width: int, groups: int, seed: int, spread: float = 0.3) -> Any:
    """float16 vectors around some centres."""
    rng = np.random.default_rng(seed)
    own = rng.integers(groups, size=count)
    return (rng.normal(size=(groups, width))[own] + spread * rng.normal(size=(count, width))).astype(np.float16)


@given(
    count=st.integers(1, 60), groups=st.integers(1, 5), clusters=st.integers(1, 8), seed=st.integers(0, 99),
    limit=st.sampled_from([0.5, 0.8, 0.95]),
)  # fmt: skip
def test_it_is_semdedups_rule_written_out(count: int, groups: int, clusters: int, seed: int, limit: float) -> None:
    vectors = drawn(count, 6, groups, seed)
    found = semantic.semantic_duplicates(vectors, limit, clusters, seed)
    centres = semantic.centres(vectors, clusters, seed)
    unit = vectors.astype(np.float64) / np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    cluster, to_centre = semantic.assigned(vectors, centres)
    np.testing.assert_allclose((unit @ centres.T.astype(np.float64)).max(axis=1), to_centre, atol=1e-5)
    for own in range(len(centres)):
        members = np.flatnonzero(cluster == own)
        members = members[np.argsort(to_centre[members], kind="stable")]
        cosines = np.triu(unit[members] @ unit[members].T, 1)  # as the authors' code: those before it
        for place, member in enumerate(members):
            best = cosines[:place, place].max(initial=-1)
            if abs(best - limit) > 1e-4:  # where rounding does not decide
                assert (found.places[member] >= 0) == (best > limit)
            if found.places[member] >= 0:
                assert unit[member] @ unit[found.places[member]] == pytest.approx(best, abs=1e-4)
                assert found.cosines[member] == pytest.approx(best, abs=1e-4)


def test_blocks_and_threads_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = drawn(500, 8, 20, 3)
    whole = semantic.semantic_duplicates(vectors, 0.9)
    monkeypatch.setattr(semantic, "BLOCK", 7)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    parts = semantic.semantic_duplicates(vectors, 0.9)
    np.testing.assert_array_equal(whole.places, parts.places)
    np.testing.assert_allclose(whole.cosines, parts.cosines, atol=1e-6)
    assert 0 < (whole.places >= 0).sum() < 500


def test_clusters_are_as_tight_as_scikit_learns_from_the_same_start(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = drawn(1000, 16, 12, 5)
    unit = semantic.unit(vectors)
    ours = semantic.centres(vectors, 12, 0)
    monkeypatch.setattr(semantic, "ROUNDS", 0)
    start = semantic.centres(vectors, 12, 0)
    theirs = KMeans(12, n_init=1, init=start).fit(unit).cluster_centers_
    cosines = [semantic.assigned(unit, semantic.unit(one))[1].mean() for one in (start, ours, theirs)]
    assert cosines[0] + 0.02 < cosines[1]
    assert cosines[1] > cosines[2] - 0.01


def test_no_images_and_equal_images() -> None:
    assert len(semantic.semantic_duplicates(np.zeros((0, 4), np.float16), 0.9).places) == 0
    equal = np.tile(np.arange(1, 5, dtype=np.float16), (6, 1))
    assert (semantic.semantic_duplicates(equal, 0.99, 2).places >= 0).sum() == 5


def test_vectors_of_zeros_are_like_none() -> None:
    assert (semantic.semantic_duplicates(np.zeros((5, 4), np.float16), 0.5, 1).places == -1).all()
