"""The order of rows: each once, the same for ever, and mixed nearly as well as by a full permutation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairloom.errors import ConfigError
from pairloom.loader.mixture import Mix
from pairloom.loader.order import (
    WHOLE,
    LateGenerator,
    Order,
    Steps,
    objective_at,
    random_bits,
    random_number,
    rank_slice,
    row_rng,
    shuffled,
)
from pairloom.loader.packing import packed

SNAPSHOTS = Path(__file__).with_name("order.json")


def snapshots() -> dict[str, object]:
    """What stays fixed: a change here breaks runs that resume, and is a breaking change in the changelog."""
    order = Order(3, (5, 4, 3, 6, 2), window=2)
    every = [[list(order.at(epoch, position)) for position in range(20)] for epoch in (0, 1)]
    return {
        "random_bits(4, 1, 2)": [int(bits) for bits in random_bits(4, 1, 2)],
        "shuffled(10, 7)": shuffled(10, 7).tolist(),
        "Order(3, (5, 4, 3, 6, 2), window=2), epochs 0 and 1": every,
        "objective_at(1, step, 'abc', (2, 1, 1))": [objective_at(1, step, "abc", (2, 1, 1)) for step in range(12)],
        "packed((5, 3, 9, 3, 8, 1, 1, 2) words and units, 24, 1, 7)": [
            cut.rows.tolist()
            for cut in packed(8, lambda _, at: np.array([[5, 3, 9, 3, 8, 1, 1, 2]] * 2).T[at], lambda _: "", 24, 1, 7)
        ],
        "row_rng(1, 2, image 3, caption 4)": row_rng(1, 2, (3).to_bytes(16, "big"), 4).integers(0, 2**32, 4).tolist(),
    }


def test_the_order_is_the_one_that_was_committed() -> None:
    assert snapshots() == json.loads(SNAPSHOTS.read_text(encoding="utf-8"))


@given(
    sizes=st.lists(st.integers(0, 9), min_size=1, max_size=12),
    window=st.integers(0, 5),
    seed=st.integers(0, 2**40),
    epoch=st.integers(0, 1000),
)
def test_each_row_has_one_position_an_epoch(sizes: list[int], window: int, seed: int, epoch: int) -> None:
    order = Order(seed, tuple(sizes), window)
    places = [order.at(epoch, position) for position in range(len(order))]
    assert sorted(places) == [(group, row) for group, size in enumerate(sizes) for row in range(size)]
    many = order.at_many(np.full(len(order), epoch), np.arange(len(order)))
    assert list(zip(*(part.tolist() for part in many), strict=True)) == places


@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=12), window=st.integers(1, 4))
def test_a_window_has_so_many_groups_and_is_left_before_the_next(sizes: list[int], window: int) -> None:
    order = Order(1, tuple(sizes), window)
    groups = [order.at(0, position)[0] for position in range(len(order))]
    last: list[int] = []
    start = 0
    while start < len(groups):
        rows = sum(size for group, size in enumerate(sizes) if group in last) if last else 0
        assert rows >= 0
        number, coming = order.window_after(0, groups[start])
        mine = [group for group in dict.fromkeys(groups) if order.window_after(0, group)[0] == number]
        count = sum(sizes[group] for group in mine)
        assert len(mine) <= window
        assert set(groups[start : start + count]) == set(mine)
        assert not set(coming.tolist()) & set(groups[: start + count])
        last, start = mine, start + count


def test_positions_beyond_two_billion_are_those_of_whole_groups() -> None:
    """Three billion rows in groups of a million: what would be a negative int32 is the row that it should be."""
    size = 1_000_000
    order = Order(0, (size,) * 3000, 1)
    assert len(order) == 3_000_000_000
    positions = np.arange(2_500 * size, 2_501 * size)
    groups, rows = order.at_many(np.zeros(size, np.int64), positions)
    assert len(set(groups.tolist())) == 1
    np.testing.assert_array_equal(np.sort(rows), np.arange(size))
    assert order.at(0, 2_500 * size + 7) == (groups[7], rows[7])
    assert len({order.at(0, place * size)[0] for place in range(2_900, 3_000)}) == 100


def test_window_0_is_a_full_permutation() -> None:
    order = Order(1, (50,) * 40, WHOLE)
    first = {order.at(0, position)[0] for position in range(100)}
    assert len(first) > 30  # 100 of 2,000 rows from 40 groups: 37 are to be expected


def test_random_bits_are_uniform() -> None:
    bits = random_bits(200_000, 5)
    counts = np.bincount((bits >> np.uint64(56)).astype(int), minlength=256)
    chi_squared = float(((counts - 200_000 / 256) ** 2 / (200_000 / 256)).sum())
    assert abs(chi_squared - 255) < 5 * np.sqrt(2 * 255)
    assert len(np.unique(bits)) == len(bits)


@given(key=st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=5))
def test_a_random_number_is_the_first_of_the_random_bits(key: list[int]) -> None:
    assert random_number(*key) == int(random_bits(1, *key)[0])


@given(batch_size=st.integers(1, 100), world_size=st.integers(1, 16))
def test_ranks_share_a_batch_without_gap_or_overlap_and_evenly(batch_size: int, world_size: int) -> None:
    parts = [range(batch_size)[rank_slice(batch_size, rank, world_size)] for rank in range(world_size)]
    assert [row for part in parts for row in part] == list(range(batch_size))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@given(sizes=st.lists(st.integers(1, 10**6), min_size=1, max_size=6), temperature=st.floats(1, 5))
def test_temperature_evens_the_shares_out_but_keeps_their_order(sizes: list[int], temperature: float) -> None:
    shares = Mix(by="temperature", temperature=temperature).shares(sizes)
    plain = np.array(sizes) / sum(sizes)
    assert abs(shares.sum() - 1) < 1e-9
    assert shares.max() <= plain.max() + 1e-9
    assert (np.argsort(sizes, kind="stable") == np.argsort(np.round(shares, 12), kind="stable")).all()


def test_a_mixture_without_sense_is_refused() -> None:
    for mix in (Mix(weights=(1,)), Mix(weights=(1, 0)), Mix(by="temperature", temperature=0)):
        with pytest.raises(ConfigError):
            mix.shares([5, 5])


def test_steps_count_in_epochs_of_the_stated_policy() -> None:
    assert Steps(10, 4, "drop").per_epoch() == 2
    positions, real = Steps(10, 4, "pad").at(5)  # the last batch of the second epoch
    assert (positions.tolist(), real.tolist()) == ([18, 19, 10, 11], [True, True, False, False])
    positions, real = Steps(10, 4, "join").at(2)
    assert positions.tolist() == [8, 9, 10, 11]
    assert real.all()


if __name__ == "__main__":
    SNAPSHOTS.write_text(json.dumps(snapshots(), indent=1) + "\n", encoding="utf-8")


def test_a_generator_made_late_draws_what_one_made_at_once_does() -> None:
    made: list[int] = []

    def make() -> np.random.Generator:
        made.append(1)
        return row_rng(3, 1, b"x" * 16, 2)

    late: Any = LateGenerator(make)
    assert not made
    now = row_rng(3, 1, b"x" * 16, 2)
    assert late.random(5).tolist() == now.random(5).tolist()
    assert late.permutation(9).tolist() == now.permutation(9).tolist()
    assert made == [1]
