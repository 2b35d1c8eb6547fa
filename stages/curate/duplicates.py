"""Find exact and near duplicates among images in list order: exact, complete and the same every time."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pairloom.compiled import compiled
from stages.curate.columns import Array, Positions, halves, pieces

BITS = 64
FEW = 50_000  # hashes up to which single bands are faster in memory
GOLDEN = 0x9E3779B97F4A7C15  # 2^64 / golden ratio: spreads band values over the slots
NONE = np.empty(0, np.int64)


def with_same_id(image_ids: Array, folder: Path) -> tuple[Positions, Positions]:
    """(images whose id an earlier one has, ascending; the first that has it). image_ids: V16."""
    found = [(NONE, NONE)]
    for places, ids in pieces(image_ids, folder):
        beginnings = halves(ids)
        order = np.argsort(beginnings, kind="stable")
        equal = beginnings[order][1:] == beginnings[order][:-1]
        likely = np.sort(order[np.r_[equal, False][: len(order)] | np.r_[False, equal][: len(order)]])
        if len(likely):  # few: ids of 16 bytes take long to compare
            _, first, group = np.unique(ids[likely], return_index=True, return_inverse=True)
            there = first[group]
            again = there != np.arange(len(likely))
            found.append((places[likely[again]], places[likely[there[again]]]))
    gone, first = (np.concatenate(each) for each in zip(*found, strict=True))
    order = np.argsort(gone, kind="stable")
    return gone[order], first[order]


def near_kept(
    phashes: npt.NDArray[np.uint64],
    max_distance: int,
    agree: int | None = None,
    colours: tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]] | None = None,
    most: float = 0.0,
) -> npt.NDArray[np.int64]:
    """For each image the position of the earliest kept one within `max_distance` bits, or -1 if it is kept itself.

    Images are kept or left out in order. One that is left out hides no other. No pair is missed: hashes that differ
    in at most d bits agree in `agree` of d + agree bands entirely, and all kept hashes that share so many are compared.
    agree: 1 to 4. What is fast for this many hashes if it is None. It never changes the result.
    colours: as of `colours.stacked`. Images of known colours are near only if none of their cells differs by more than
    `most`.
    """
    places, cells = colours or (np.full(len(phashes), -1, np.int64), np.empty((0, 2), np.uint8))
    keys = _keys(max_distance, len(phashes), agree)
    room = _room(len(keys[0]), keys[1], len(phashes))
    found: npt.NDArray[np.int64] = _scan(
        np.ascontiguousarray(phashes), places, cells, float(most) ** 2, *keys, max_distance, *room
    )
    return found


def _room(masks: int, slot_bits: int, hashes: int) -> tuple[Array, Array]:
    """Of each key the last kept hash of each slot, and of each hash the one kept before it in the same slot: none."""
    kind = np.int32 if hashes < 2**31 else np.int64
    return np.full((masks, 1 << slot_bits), -1, kind), np.full((masks, hashes), -1, kind)


def near_any(
    phashes: npt.NDArray[np.uint64], others: npt.NDArray[np.uint64], max_distance: int, agree: int | None = None
) -> npt.NDArray[np.bool_]:
    """Which images are within `max_distance` bits of one of `others`. No pair is missed (see near_kept)."""
    keys = _keys(max_distance, len(others), agree)
    found: npt.NDArray[np.bool_] = _scan_others(
        np.ascontiguousarray(phashes),
        np.ascontiguousarray(others),
        *keys,
        max_distance,
        *_room(len(keys[0]), keys[1], len(others)),
    )
    return found


def _keys(max_distance: int, hashes: int, agree: int | None) -> tuple[npt.NDArray[np.uint64], int]:
    """The bits that each key takes from a hash, as masks, and how many bits of a mixed key choose its slot."""
    if agree is None:  # a chain of hashes in memory: more keys take more room
        agree = 2 if hashes > FEW else 1
    keys = [sum(chosen) for chosen in itertools.combinations(bands_of(max_distance + agree), agree)]
    return np.array(keys, np.uint64), min(max(8, hashes.bit_length()), 24)


def bands_of(number: int) -> list[int]:
    """The bits of a hash in so many runs, as masks."""
    edges = [BITS * band // number for band in range(number + 1)]
    return [(1 << stop) - (1 << start) for start, stop in itertools.pairwise(edges)]


@compiled
def _scan(
    phashes: npt.NDArray[np.uint64],
    places: npt.NDArray[np.int64],
    cells: npt.NDArray[np.uint8],
    most_squared: float,
    masks: npt.NDArray[np.uint64],
    slot_bits: int,
    max_distance: int,
    heads: Array,
    before: Array,
) -> npt.NDArray[np.int64]:
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
                    and ones(value ^ phashes[there]) <= max_distance
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
    heads: Array,
    before: Array,
) -> npt.NDArray[np.bool_]:
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
                near[here] = ones(phashes[here] ^ others[there]) <= max_distance
                there = before[band, there]
    return near


@compiled
def _same_colours(cells: npt.NDArray[np.uint8], one: np.int64, other: np.int64, most_squared: float) -> bool:
    """Whether (Cb, Cr) of no cell is farther than that. True where the colours of one are not known."""
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
def ones(value: np.uint64) -> np.int64:
    """Bits that are 1 (Hacker's Delight, figure 5-2, for 64 bits)."""
    value = value - ((value >> np.uint64(1)) & np.uint64(0x5555555555555555))
    value = (value & np.uint64(0x3333333333333333)) + ((value >> np.uint64(2)) & np.uint64(0x3333333333333333))
    value = (value + (value >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((value * np.uint64(0x0101010101010101)) >> np.uint64(56))
