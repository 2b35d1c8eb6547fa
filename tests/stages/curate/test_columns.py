"""Pieces hold every row once, and numbers come back from their files."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stages.curate import columns, counting
from stages.curate.columns import Column, pieces
from stages.curate.duplicates import near_kept, with_same_id
from stages.curate.near_ones import near_ones
from stages.negatives.parts import write_table

KEYS = st.lists(st.integers(0, 5) | st.integers(0, 2**64 - 1), max_size=300)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "PIECE", 8)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(keys=KEYS, mask=st.sampled_from([2**64 - 1, 1, 0xFF00]))
def test_a_piece_has_all_rows_of_its_keys_and_every_row_is_in_one(keys: list[int], mask: int, tmp_path: Path) -> None:
    array = np.array(keys, np.uint64)
    found = list(pieces(array, tmp_path, np.uint64(mask), [np.arange(len(keys)) * 3]))
    assert sorted(np.concatenate([np.empty(0, int), *(places for places, *_ in found)]).tolist()) == list(
        range(len(keys))
    )
    for places, own, beside in found:
        assert (np.diff(places) > 0).all()
        assert own.tolist() == array[places].tolist()
        assert beside.tolist() == (3 * places).tolist()
    assert sum(len({key & mask for key in own.tolist()}) for _, own, _ in found) == len({key & mask for key in keys})


def test_random_keys_are_cut_into_pieces_of_about_one_size(tmp_path: Path) -> None:
    keys = np.random.default_rng(0).integers(0, 2**64, 5000, dtype=np.uint64)
    sizes = [len(places) for places, _ in pieces(keys, tmp_path)]
    assert max(sizes) < 3 * 8
    assert len(sizes) == 1 << (5000 // 8).bit_length()


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
def test_in_pieces_all_is_found_that_is_found_at_once(
    ids: list[int], most: int, so_far: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    raw, room = np.array([bytes([one]) * 16 for one in ids], "V16"), tmp_path_factory.mktemp("room")
    gone, first = with_same_id(raw, room)
    wanted = {here: ids.index(one) for here, one in enumerate(ids) if ids.index(one) != here}
    assert dict(zip(gone.tolist(), first.tolist(), strict=True)) == wanted
    files = {}
    for start in range(0, len(ids), 7):
        own = raw[start : start + 7]
        table = pa.table({"image_id": pa.array(map(bytes, own), pa.binary(16)), "num_captions": [2] * len(own)})
        files[f"{start // 7:05d}"] = write_table(table, room / str(start))
    with ExitStack() as stack:
        limits = counting.Limits(np.full(len(files), most), so_far)
        crowded = counting._crowded(files, limits, room, stack)
        for number in range(len(files)):
            seen = Counter(ids[: (number + 1) * 7] if so_far else ids)
            here = sorted({one for one in ids[number * 7 : (number + 1) * 7] if 2 * seen[one] > most})
            assert [bytes(one)[0] for one in crowded.of(number)] == here


@settings(deadline=None)
@given(
    centres=st.lists(st.integers(0, 3), max_size=40),
    bits=st.lists(st.integers(0, 63), max_size=40),
    agree=st.integers(1, 4),
)
def test_near_ones_are_found_across_pieces(
    centres: list[int], bits: list[int], agree: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    hashes = [(centre * 0x0123456789ABCDEF % 2**64) ^ (1 << bit) for centre, bit in zip(centres, bits, strict=False)]
    wanted = [
        i
        for i, one in enumerate(hashes)
        if any((one ^ other).bit_count() <= 2 for j, other in enumerate(hashes) if i != j)
    ]
    array = np.array(hashes, np.uint64)
    asked = near_ones(array, 2, tmp_path_factory.getbasetemp(), agree)
    assert asked.tolist() == wanted
    kept = near_kept(array, 2)
    some = near_kept(array[asked], 2)
    assert kept[asked].tolist() == np.where(some < 0, -1, asked[some] if len(asked) else some).tolist()
    assert (np.delete(kept, asked) == -1).all()
