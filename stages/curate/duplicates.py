"""Find exact and near duplicates among images in list order: exact, complete and the same every time."""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

BITS = 64
GOLDEN = 0x9E3779B97F4A7C15  # 2^64 / golden ratio: spreads band values over the slots


def first_with_same_id(image_ids: npt.NDArray[np.void]) -> npt.NDArray[np.int64]:
    """For each image the position of the first one with the same id (its own position if it is the first)."""
    _, first, group = np.unique(image_ids, return_index=True, return_inverse=True)
    positions: npt.NDArray[np.int64] = first[group].astype(np.int64)
    return positions


def near_kept(phashes: npt.NDArray[np.uint64], max_distance: int) -> npt.NDArray[np.int64]:
    """For each image the position of the earliest kept one within `max_distance` bits, or -1 if it is kept itself.

    Images are kept or left out in order; one that is left out hides no other. No pair is missed: hashes that differ
    in at most d bits agree in one of d + 1 bands entirely, and all kept hashes that share a band are compared.
    """
    found: npt.NDArray[np.int64] = _scan(
        np.ascontiguousarray(phashes), *_bands(max_distance, len(phashes)), max_distance
    )
    return found


def near_any(
    phashes: npt.NDArray[np.uint64], others: npt.NDArray[np.uint64], max_distance: int
) -> npt.NDArray[np.bool_]:
    """Which images are within `max_distance` bits of one of `others`; no pair is missed."""
    bands = _bands(max_distance, len(others))
    found: npt.NDArray[np.bool_] = _scan_others(
        np.ascontiguousarray(phashes), np.ascontiguousarray(others), *bands, max_distance
    )
    return found


def _bands(max_distance: int, hashes: int) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64], int]:
    """Where each band begins, its mask, and how many bits of a band's value choose its slot."""
    bands = max_distance + 1
    edges = [BITS * band // bands for band in range(bands + 1)]
    widths = np.diff(edges)
    masks = np.array([(1 << int(width)) - 1 for width in widths], np.uint64)
    return np.array(edges[:-1], np.uint64), masks, int(min(widths.max(), max(8, hashes.bit_length()), 24))


@numba.njit(cache=True)
def _scan(
    phashes: npt.NDArray[np.uint64],
    shifts: npt.NDArray[np.uint64],
    masks: npt.NDArray[np.uint64],
    slot_bits: int,
    max_distance: int,
) -> npt.NDArray[np.int64]:
    heads = np.full((len(shifts), 1 << slot_bits), -1, np.int64)  # the last kept hash of each slot
    before = np.full((len(shifts), len(phashes)), -1, np.int64)  # the one kept before it in the same slot
    kept_by = np.full(len(phashes), -1, np.int64)
    slots = np.empty(len(shifts), np.int64)
    down = np.uint64(64 - slot_bits)
    for here in range(len(phashes)):
        value = phashes[here]
        for band in range(len(shifts)):
            slots[band] = np.int64((((value >> shifts[band]) & masks[band]) * np.uint64(GOLDEN)) >> down)
            there = heads[band, slots[band]]
            while there >= 0:
                earlier = kept_by[here] < 0 or there < kept_by[here]
                if earlier and _ones(value ^ phashes[there]) <= max_distance:
                    kept_by[here] = there
                there = before[band, there]
        if kept_by[here] < 0:
            for band in range(len(shifts)):
                before[band, here] = heads[band, slots[band]]
                heads[band, slots[band]] = here
    return kept_by


@numba.njit(cache=True)
def _scan_others(
    phashes: npt.NDArray[np.uint64],
    others: npt.NDArray[np.uint64],
    shifts: npt.NDArray[np.uint64],
    masks: npt.NDArray[np.uint64],
    slot_bits: int,
    max_distance: int,
) -> npt.NDArray[np.bool_]:
    heads = np.full((len(shifts), 1 << slot_bits), -1, np.int64)
    before = np.full((len(shifts), len(others)), -1, np.int64)
    down = np.uint64(64 - slot_bits)
    for there in range(len(others)):
        for band in range(len(shifts)):
            slot = np.int64((((others[there] >> shifts[band]) & masks[band]) * np.uint64(GOLDEN)) >> down)
            before[band, there] = heads[band, slot]
            heads[band, slot] = there
    near = np.zeros(len(phashes), np.bool_)
    for here in range(len(phashes)):
        for band in range(len(shifts)):
            slot = np.int64((((phashes[here] >> shifts[band]) & masks[band]) * np.uint64(GOLDEN)) >> down)
            there = heads[band, slot]
            while there >= 0 and not near[here]:
                near[here] = _ones(phashes[here] ^ others[there]) <= max_distance
                there = before[band, there]
    return near


@numba.njit(cache=True)
def _ones(value: np.uint64) -> np.int64:
    """Bits that are 1 (Hacker's Delight, figure 5-2, for 64 bits)."""
    value = value - ((value >> np.uint64(1)) & np.uint64(0x5555555555555555))
    value = (value & np.uint64(0x3333333333333333)) + ((value >> np.uint64(2)) & np.uint64(0x3333333333333333))
    value = (value + (value >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((value * np.uint64(0x0101010101010101)) >> np.uint64(56))
