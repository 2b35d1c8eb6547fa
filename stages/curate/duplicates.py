"""Find exact and near duplicates among images in list order: exact, complete and the same every time."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt

from pairloom.compiled import compiled
from stages.curate.columns import PIECE, pieces

BITS = 64
FEW = 50_000  # hashes up to which single bands are faster
GOLDEN = 0x9E3779B97F4A7C15  # 2^64 / golden ratio: spreads band values over the slots


def first_with_same_id(image_ids: npt.NDArray[np.void]) -> npt.NDArray[np.int64]:
    """For each image the position of the first one with the same id (its own position if it is the first)."""
    found = np.empty(len(image_ids), np.int64)
    beginnings = np.array(image_ids.view(np.dtype([("start", "<u8"), ("rest", "<u8")]))["start"])
    for positions in pieces(beginnings):
        _, first, group = np.unique(image_ids[positions], return_index=True, return_inverse=True)
        found[positions] = positions[first[group]]
    return found


def near_kept(
    phashes: npt.NDArray[np.uint64],
    max_distance: int,
    agree: int | None = None,
    colours: tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8]] | None = None,
    most: float = 0.0,
) -> npt.NDArray[np.int64]:
    """For each image the position of the earliest kept one within `max_distance` bits, or -1 if it is kept itself.

    Images are kept or left out in order; one that is left out hides no other. No pair is missed: hashes that differ
    in at most d bits agree in `agree` of d + agree bands entirely, and all kept hashes that share so many are compared.
    agree: 1 or 2; the faster one for this many hashes if it is None. It never changes the result.
    colours: as of `colours.stacked`; images of known colours are near only if none of their cells differs by more than
    `most`.
    """
    places, cells = colours or (np.full(len(phashes), -1, np.int32), np.empty((0, 2), np.uint8))
    keys = _keys(max_distance, len(phashes), agree)
    found: npt.NDArray[np.int64] = _scan(
        np.ascontiguousarray(phashes), places, cells, float(most) ** 2, *keys, max_distance
    )
    return found


def with_near(phashes: npt.NDArray[np.uint64], max_distance: int, agree: int | None = None) -> npt.NDArray[np.bool_]:
    """Which images have another one within `max_distance` bits, earlier or later; in some 25 bytes an image."""
    near = np.zeros(len(phashes), np.bool_)
    first = np.zeros(len(phashes), np.bool_)  # of those with the same hash
    for positions in pieces(phashes):
        _, start, group, count = np.unique(
            phashes[positions], return_index=True, return_inverse=True, return_counts=True
        )
        near[positions] = (count > 1)[group]
        first[positions[start]] = True
    distinct = np.flatnonzero(first)
    hashes = np.ascontiguousarray(phashes[distinct])
    found = near[distinct]
    del first, distinct
    for mask in _keys(max_distance, len(hashes), agree)[0]:
        for positions in pieces(hashes, mask):
            order = positions[np.argsort(hashes[positions] & mask)]
            _mark_near(hashes, order, mask, max_distance, found)
    return _with_equals(phashes, near, hashes[found])


def _with_equals(
    phashes: npt.NDArray[np.uint64], near: npt.NDArray[np.bool_], hashes: npt.NDArray[np.uint64]
) -> npt.NDArray[np.bool_]:
    """`near`, and all who have one of these hashes."""
    hashes = np.sort(hashes)
    if len(hashes):
        for start in range(0, len(phashes), PIECE):
            part = phashes[start : start + PIECE]
            place = np.minimum(np.searchsorted(hashes, part), len(hashes) - 1)
            near[start : start + PIECE] |= hashes[place] == part
    return near


def near_any(
    phashes: npt.NDArray[np.uint64], others: npt.NDArray[np.uint64], max_distance: int, agree: int | None = None
) -> npt.NDArray[np.bool_]:
    """Which images are within `max_distance` bits of one of `others`; no pair is missed (see near_kept)."""
    keys = _keys(max_distance, len(others), agree)
    found: npt.NDArray[np.bool_] = _scan_others(
        np.ascontiguousarray(phashes), np.ascontiguousarray(others), *keys, max_distance
    )
    return found


def _keys(max_distance: int, hashes: int, agree: int | None) -> tuple[npt.NDArray[np.uint64], int]:
    """The bits that each key takes from a hash, as masks, and how many bits of a mixed key choose its slot."""
    if agree is None:  # pairs of bands are longer keys, so far fewer hashes share one, but there are more of them
        agree = 2 if hashes > FEW else 1
    bands = max_distance + agree
    edges = [BITS * band // bands for band in range(bands + 1)]
    masks = [(1 << stop) - (1 << start) for start, stop in itertools.pairwise(edges)]
    keys = [sum(chosen) for chosen in itertools.combinations(masks, agree)]
    return np.array(keys, np.uint64), min(max(8, hashes.bit_length()), 24)


@compiled
def _scan(
    phashes: npt.NDArray[np.uint64],
    places: npt.NDArray[np.int32],
    cells: npt.NDArray[np.uint8],
    most_squared: float,
    masks: npt.NDArray[np.uint64],
    slot_bits: int,
    max_distance: int,
) -> npt.NDArray[np.int64]:
    heads = np.full((len(masks), 1 << slot_bits), -1, np.int32)  # the last kept hash of each slot
    before = np.full((len(masks), len(phashes)), -1, np.int32)  # the one kept before it in the same slot
    kept_by = np.full(len(phashes), -1, np.int64)
    slots = np.empty(len(masks), np.int64)
    down = np.uint64(64 - slot_bits)
    for here in range(len(phashes)):
        value = phashes[here]
        for band in range(len(masks)):
            slots[band] = _slot(value & masks[band], down)
            there = heads[band, slots[band]]
            while there >= 0:
                earlier = kept_by[here] < 0 or there < kept_by[here]
                if (
                    earlier
                    and _ones(value ^ phashes[there]) <= max_distance
                    and _same_colours(cells, places[here], places[there], most_squared)
                ):
                    kept_by[here] = there
                there = before[band, there]
        if kept_by[here] < 0:
            for band in range(len(masks)):
                before[band, here] = heads[band, slots[band]]
                heads[band, slots[band]] = here
    return kept_by


@compiled
def _scan_others(
    phashes: npt.NDArray[np.uint64],
    others: npt.NDArray[np.uint64],
    masks: npt.NDArray[np.uint64],
    slot_bits: int,
    max_distance: int,
) -> npt.NDArray[np.bool_]:
    heads = np.full((len(masks), 1 << slot_bits), -1, np.int32)
    before = np.full((len(masks), len(others)), -1, np.int32)
    down = np.uint64(64 - slot_bits)
    for there in range(len(others)):
        for band in range(len(masks)):
            slot = _slot(others[there] & masks[band], down)
            before[band, there] = heads[band, slot]
            heads[band, slot] = there
    near = np.zeros(len(phashes), np.bool_)
    for here in range(len(phashes)):
        for band in range(len(masks)):
            slot = _slot(phashes[here] & masks[band], down)
            there = heads[band, slot]
            while there >= 0 and not near[here]:
                near[here] = _ones(phashes[here] ^ others[there]) <= max_distance
                there = before[band, there]
    return near


@compiled
def _mark_near(
    hashes: npt.NDArray[np.uint64],
    order: npt.NDArray[np.int64],
    mask: np.uint64,
    max_distance: int,
    near: npt.NDArray[np.bool_],
) -> None:
    """Mark all within the distance of another that agrees with them under the mask; order: sorted by that."""
    start = 0
    for stop in range(1, len(order) + 1):
        if stop < len(order) and (hashes[order[stop]] ^ hashes[order[start]]) & mask == np.uint64(0):
            continue
        for one in range(start, stop):
            for other in range(one + 1, stop):
                if near[order[one]] and near[order[other]]:
                    continue
                if _ones(hashes[order[one]] ^ hashes[order[other]]) <= max_distance:
                    near[order[one]] = near[order[other]] = True
        start = stop


@compiled
def _same_colours(cells: npt.NDArray[np.uint8], one: np.int32, other: np.int32, most_squared: float) -> bool:
    """Whether (Cb, Cr) of no cell is farther than that; True where the colours of one are not known."""
    if one < 0 or other < 0:
        return True
    for place in range(0, cells.shape[1], 2):
        blue = np.int64(cells[one, place]) - np.int64(cells[other, place])
        red = np.int64(cells[one, place + 1]) - np.int64(cells[other, place + 1])
        if blue * blue + red * red > most_squared:
            return False
    return True


@compiled
def _slot(key: np.uint64, down: np.uint64) -> np.int64:
    """A place for a key: two rounds of multiplying, so that bits from anywhere count."""
    mixed = (key ^ (key >> np.uint64(32))) * np.uint64(GOLDEN)
    return np.int64(((mixed ^ (mixed >> np.uint64(29))) * np.uint64(GOLDEN)) >> down)


@compiled
def _ones(value: np.uint64) -> np.int64:
    """Bits that are 1 (Hacker's Delight, figure 5-2, for 64 bits)."""
    value = value - ((value >> np.uint64(1)) & np.uint64(0x5555555555555555))
    value = (value & np.uint64(0x3333333333333333)) + ((value >> np.uint64(2)) & np.uint64(0x3333333333333333))
    value = (value + (value >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((value * np.uint64(0x0101010101010101)) >> np.uint64(56))
