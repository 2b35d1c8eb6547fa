"""The most probable classes of each region.

Letters: K regions, C object classes, P classes kept.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from stages.regions.suppression import Array

TOGETHER = 4  # classes whose best one stands for them


def most_probable(probs_KC: Tensor, width: int) -> tuple[Array, Array]:
    """(values (K, P), class ids (K, P)) of the `width` best classes, best first; on a CPU equal ones by their ids.

    probs_KC: float32, not negative. width: at most C.
    """
    if probs_KC.is_cuda:
        values_KP, ids_KP = probs_KC.topk(width, dim=1)
        return values_KP.cpu().numpy(), ids_KP.cpu().numpy()
    probs: Array = np.ascontiguousarray(probs_KC.numpy(), np.float32)
    few = 0 < 2 * TOGETHER * width <= probs.shape[1] and probs.size
    ids = _best(probs.view(np.int32), width) if few else np.argsort(-probs, axis=1, kind="stable")[:, :width]
    return np.take_along_axis(probs, ids, axis=1), ids


def _best(bits_KC: Array, width: int) -> Array:
    """Few of many, in a fifth of the time that torch's topk takes.

    The bits of floats that are not negative are in the order of the floats. At least `width` classes reach the last
    wanted one of the bests of each few classes, so only those that do are put in order.
    """
    share = bits_KC.shape[1] // TOGETHER
    bests_KB = bits_KC[:, :share]
    for start in range(share, share * TOGETHER, share):
        bests_KB = np.maximum(bests_KB, bits_KC[:, start : start + share])
    bounds_K = np.partition(bests_KB, share - width, axis=1)[:, share - width]
    rows_E, ids_E = np.divmod(np.flatnonzero(bits_KC >= bounds_K[:, None]), bits_KC.shape[1])
    counts_K = np.bincount(rows_E, minlength=len(bits_KC))
    places_E = np.arange(len(rows_E)) - np.repeat(np.cumsum(counts_K) - counts_K, counts_K)
    # One number for each: the value in the upper half, turned round so that the best is least, then the class.
    keys_KM = np.full((len(bits_KC), max(int(counts_K.max(initial=0)), width)), np.iinfo(np.int64).max)
    keys_KM[rows_E, places_E] = (-bits_KC[rows_E, ids_E].astype(np.int64) << 32) | ids_E
    keys_KM.sort(axis=1)
    ids: Array = keys_KM[:, :width] & 0xFFFFFFFF
    return ids
