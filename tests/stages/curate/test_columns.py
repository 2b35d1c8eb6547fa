"""Pieces hold every row once, and numbers come back from their files."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.curate import columns, counting
from stages.curate.columns import Column, pieces
from stages.curate.duplicates import first_with_same_id, near_kept, with_near

KEYS = st.lists(st.integers(0, 5) | st.integers(0, 2**64 - 1), max_size=300)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "PIECE", 8)


@given(keys=KEYS)
def test_a_piece_has_all_rows_of_its_keys_and_every_row_is_in_one(keys: list[int]) -> None:
    array = np.array(keys, np.uint64)
    found = list(pieces(array))
    assert sorted(np.concatenate([np.empty(0, int), *found]).tolist()) == list(range(len(keys)))
    assert all((np.diff(places) > 0).all() for places in found)
    assert sum(len(set(array[places].tolist())) for places in found) == len(set(keys))


def test_random_keys_are_cut_into_pieces_of_about_one_size() -> None:
    keys = np.random.default_rng(0).integers(0, 2**64, 5000, dtype=np.uint64)
    sizes = [len(places) for places in pieces(keys)]
    assert max(sizes) < 8 + 20  # groups of about 20 keys of one spread byte
    assert all(size >= 8 for size in sizes[:-1])


@given(parts=st.lists(st.lists(st.integers(0, 2**32 - 1))))
def test_a_column_holds_what_was_added(parts: list[list[int]], tmp_path_factory: pytest.TempPathFactory) -> None:
    column = Column(tmp_path_factory.mktemp("column") / "file", np.uint32)
    so_far: list[int] = []
    for part in parts:
        column.add(part)
        so_far += part
        assert column.array().tolist() == so_far
        assert len(column) == len(so_far)
    column.close()
    assert column.array().tolist() == so_far


@settings(deadline=None)
@given(ids=st.lists(st.integers(0, 9), max_size=60), most=st.integers(1, 4), so_far=st.booleans())
def test_in_pieces_all_is_found_that_is_found_at_once(ids: list[int], most: int, so_far: bool) -> None:
    raw = np.array([bytes([one]) * 16 for one in ids], "V16")
    assert first_with_same_id(raw).tolist() == [ids.index(one) for one in ids]
    shards = np.arange(len(ids)) // 7
    limits = counting.Limits(np.full(len(ids) // 7 + 1, most), so_far)
    crowded = counting._crowded(raw, shards, np.full(len(ids), 2), limits)
    ends = [len(ids) if not so_far else (row // 7 + 1) * 7 for row in range(len(ids))]
    counts = [2 * Counter(ids[:end])[one] for one, end in zip(ids, ends, strict=True)]
    assert crowded.tolist() == [row for row, count in enumerate(counts) if count > most]


@settings(deadline=None)
@given(centres=st.lists(st.integers(0, 3), max_size=40), bits=st.lists(st.integers(0, 63), max_size=40))
def test_near_ones_are_found_across_pieces(centres: list[int], bits: list[int]) -> None:
    hashes = [(centre * 0x0123456789ABCDEF % 2**64) ^ (1 << bit) for centre, bit in zip(centres, bits, strict=False)]
    wanted = [
        any((one ^ other).bit_count() <= 2 for j, other in enumerate(hashes) if i != j) for i, one in enumerate(hashes)
    ]
    array = np.array(hashes, np.uint64)
    assert with_near(array, 2).tolist() == wanted
    asked = np.flatnonzero(with_near(array, 2))
    kept = near_kept(array, 2)
    some = near_kept(array[asked], 2)
    assert kept[asked].tolist() == np.where(some < 0, -1, asked[some] if len(asked) else some).tolist()
    assert (np.delete(kept, asked) == -1).all()
