"""The search for duplicates against brute force."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis.strategies import DataObject, data, integers, lists, sampled_from, tuples

from stages.curate.colours import KIND, WIDTH, stacked
from stages.curate.duplicates import near_kept, with_same_id
from stages.curate.near_ones import near_ones


def brute_force(phashes: list[int], most: int, colours: list[int | None] | None = None, apart: float = 0) -> list[int]:
    """For each hash, in order: the first kept one within `most` bits, or -1 if there is none and it is kept.

    colours: of each picture, one number. Two that are known and differ by more than `apart` are not near.
    """
    kept: list[int] = []
    found = []
    colours = colours or [None] * len(phashes)
    for here, value in enumerate(phashes):
        near = [
            there
            for there in kept
            if (value ^ phashes[there]).bit_count() <= most and alike(colours[here], colours[there], apart)
        ]
        found.append(near[0] if near else -1)
        if not near:
            kept.append(here)
    return found


def alike(one: int | None, other: int | None, apart: float) -> bool:
    return one is None or other is None or abs(one - other) <= apart


# A few centres with some of their bits flipped: many pairs at, just below and just above the distance.
CLOUDS = lists(tuples(integers(0, 3), lists(integers(0, 63), max_size=6)), max_size=60)
CENTRES = (0, 0xFFFFFFFFFFFFFFFF, 0x0123456789ABCDEF, 0x0123456789ABCDEF ^ 0x1F)


@given(cloud=CLOUDS, most=integers(0, 16))
@settings(max_examples=200, deadline=None)
def test_the_banded_search_finds_what_brute_force_finds(cloud: list[tuple[int, list[int]]], most: int) -> None:
    phashes = [CENTRES[centre] ^ sum(1 << bit for bit in set(bits)) for centre, bits in cloud]
    for agree in (1, 2):
        assert near_kept(np.array(phashes, np.uint64), most, agree).tolist() == brute_force(phashes, most)


@given(cloud=CLOUDS, most=integers(0, 16), data=data())
@settings(max_examples=100, deadline=None)
def test_colours_keep_apart_what_the_hashes_do_not(
    cloud: list[tuple[int, list[int]]], most: int, data: DataObject
) -> None:
    phashes = [CENTRES[centre] ^ sum(1 << bit for bit in set(bits)) for centre, bits in cloud]
    shades = sampled_from([None, 0, 100, 139, 140, 141, 255])
    known: list[int | None] = data.draw(lists(shades, min_size=len(phashes), max_size=len(phashes)))
    cells = [None if shade is None else bytes([128] * (WIDTH - 1) + [shade]) for shade in known]
    column = pa.chunked_array([pa.array(cells, KIND)])
    found = near_kept(np.array(phashes, np.uint64), most, colours=stacked(column), most=40.0)
    assert found.tolist() == brute_force(phashes, most, known, 40)


@given(cloud=CLOUDS, most=integers(0, 16), agree=integers(1, 4))
@settings(deadline=None)
def test_whoever_has_a_near_one_is_found_whichever_comes_first(
    cloud: list[tuple[int, list[int]]], most: int, agree: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    phashes = [CENTRES[centre] ^ sum(1 << bit for bit in set(bits)) for centre, bits in cloud]
    wanted = [
        here
        for here, value in enumerate(phashes)
        if any((value ^ other).bit_count() <= most for there, other in enumerate(phashes) if there != here)
    ]
    folder = tmp_path_factory.getbasetemp()
    assert near_ones(np.array(phashes, np.uint64), most, folder, agree).tolist() == wanted


@pytest.mark.parametrize("most", [0, 1, 2, 4, 8, 16])
def test_every_single_pair_of_that_distance_is_found(most: int) -> None:
    rng = np.random.default_rng(most)
    for _ in range(200):
        value = int(rng.integers(0, 2**64, dtype=np.uint64))
        bits = rng.choice(64, most + 1, replace=False)
        near, far = value, value
        for bit in bits[:most]:
            near ^= 1 << int(bit)
        for bit in bits:
            far ^= 1 << int(bit)
        found = near_kept(np.array([value, near, far], np.uint64), most).tolist()
        assert found == brute_force([value, near, far], most)
        assert found[1] == 0
        assert found[2] == -1


def test_a_thousand_random_hashes_agree_with_brute_force() -> None:
    rng = np.random.default_rng(0)
    phashes = rng.integers(0, 2**64, 1000, dtype=np.uint64)
    phashes[500:] = phashes[:500] ^ (np.uint64(1) << rng.integers(0, 64, 500, dtype=np.uint64))
    assert near_kept(phashes, 3).tolist() == brute_force(phashes.tolist(), 3)


@given(lists(integers(0, 5), max_size=40))
def test_the_first_with_the_same_id_is_found(tmp_path_factory: pytest.TempPathFactory, ids: list[int]) -> None:
    raw = [bytes([0, value, 0]) + bytes(13) for value in ids]  # zero bytes at the end must count too
    gone, first = with_same_id(np.array(raw, "V16"), tmp_path_factory.getbasetemp())
    wanted = {here: ids.index(value) for here, value in enumerate(ids) if ids.index(value) != here}
    assert dict(zip(gone.tolist(), first.tolist(), strict=True)) == wanted
    assert gone.tolist() == sorted(wanted)
