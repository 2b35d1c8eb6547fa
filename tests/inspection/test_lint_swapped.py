"""Features at another row are found by the classes that they fit, in shards alone. Sound shards have none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inspection.lint.swapped import swapped_rows

CLASSES, WIDTH = 40, 64


def shard(seed: int, noise: float = 0.5, regions: tuple[int, int] = (4, 12), rows: int = 80) -> tuple[Any, Any, Any]:
    """(features, classes, regions of each row): each class has a direction, as for a linear class head."""
    random = np.random.default_rng(seed)
    numbers = random.integers(*regions, rows)
    likely = 1 / np.arange(1, CLASSES + 1)
    classes = random.choice(CLASSES, numbers.sum(), p=likely / likely.sum()).astype("<u2")
    directions = np.random.default_rng(0).normal(size=(CLASSES, WIDTH))
    vectors = np.maximum(directions[classes] + noise * random.normal(size=(len(classes), WIDTH)), 0)
    return vectors.astype("<f2"), classes, numbers


def swap(vectors: Any, numbers: Any, one: int, other: int) -> Any:
    starts = np.cumsum(numbers) - numbers
    a, b = (slice(starts[i], starts[i] + numbers[i]) for i in (one, other))
    changed = vectors.copy()
    changed[a], changed[b] = vectors[b], vectors[a]
    return changed


def two_of_one_size(numbers: Any, random: np.random.Generator) -> tuple[int, int]:
    one = int(random.integers(len(numbers)))
    return one, int(random.choice([i for i in range(len(numbers)) if numbers[i] == numbers[one] and i != one]))


@given(seed=st.integers(0, 2**32))
@settings(max_examples=30, deadline=None)
def test_nothing_but_rows_whose_features_are_swapped_is_found(seed: int) -> None:
    vectors, classes, numbers = shard(seed)
    one, other = two_of_one_size(numbers, np.random.default_rng(seed))
    assert swapped_rows(vectors, classes, numbers) == {}
    assert swapped_rows(swap(vectors, numbers, one, other), classes, numbers) in ({}, {one: other, other: one})


def test_nine_of_ten_swapped_rows_are_found() -> None:
    """The others have regions of the same classes, or of classes that the shard has once or twice."""
    found = 0
    for seed in range(50):
        vectors, classes, numbers = shard(seed)
        one, other = two_of_one_size(numbers, np.random.default_rng(seed))
        found += bool(swapped_rows(swap(vectors, numbers, one, other), classes, numbers))
    assert found >= 45


@given(seed=st.integers(0, 2**32), noise=st.floats(0, 20), least=st.integers(1, 8))
@settings(max_examples=60, deadline=None)
def test_a_sound_shard_has_none_however_unclear_its_features_are(seed: int, noise: float, least: int) -> None:
    vectors, classes, numbers = shard(seed, noise, (least, least + 3))
    assert swapped_rows(vectors, classes, numbers) == {}


def test_features_of_a_whole_shard_moved_on_by_a_row_show_no_relation() -> None:
    """Said plainly: where no row has its own features, nothing is left to compare with."""
    vectors, classes, numbers = shard(1, regions=(5, 6))
    assert swapped_rows(np.roll(vectors, 5, axis=0), classes, numbers) == {}


@pytest.mark.parametrize("rows", [0, 1, 19])
def test_a_small_shard_is_left_alone(rows: int) -> None:
    vectors, classes, numbers = shard(2, rows=rows)
    assert swapped_rows(vectors, classes, numbers) == {}
