"""The most probable classes of each region.

Letters: K regions, C object classes, P classes kept.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from pairloom.compiled import compiled
from stages.regions.suppression import Array

COARSE = 20  # bits of a float32 that are left out when probabilities are counted: eight steps for each power of two


def most_probable(probs_KC: Tensor, width: int) -> tuple[Array, Array]:
    """(values (K, P), class ids (K, P)) of the `width` best classes, best first; on a CPU equal ones by their ids.

    probs_KC: float32, not negative. width: at most C.
    """
    if probs_KC.is_cuda:
        values_KP, ids_KP = probs_KC.topk(width, dim=1)
        return values_KP.cpu().numpy(), ids_KP.cpu().numpy()
    probs: Array = np.ascontiguousarray(probs_KC.numpy(), np.float32)
    if 4 * width > probs.shape[1]:
        ids = np.argsort(-probs, axis=1, kind="stable")[:, :width]
    else:
        ids = _best(probs, probs.view(np.uint32), width)
    return np.take_along_axis(probs, ids, axis=1), ids


@compiled
def _best(probs_KC: Array, bits_KC: Array, width: int) -> Array:
    """Few of many, in a third of the time that torch's topk takes.

    Floats that are not negative are in the order of their bits. So the first bits are counted, and only classes from
    the bucket on that holds the last wanted one are put in order.
    """
    ids_KP = np.empty((len(probs_KC), width), np.int64)
    values_P, counts = np.empty(width, np.float32), np.empty(1 << (32 - COARSE), np.int64)
    for row in range(len(probs_KC) if width else 0):
        probs_C, bits_C, ids_P = probs_KC[row], bits_KC[row], ids_KP[row]
        counts[:] = 0
        for each in range(len(bits_C)):
            counts[bits_C[each] >> COARSE] += 1
        bucket, total = len(counts) - 1, counts[-1]
        while total < width:
            bucket -= 1
            total += counts[bucket]
        number = 0
        for each in range(len(bits_C)):
            value = probs_C[each]
            if bits_C[each] >> COARSE < bucket or (number == width and value <= values_P[width - 1]):
                continue
            number = min(number + 1, width)
            place = number - 1
            while place > 0 and values_P[place - 1] < value:
                values_P[place], ids_P[place] = values_P[place - 1], ids_P[place - 1]
                place -= 1
            values_P[place], ids_P[place] = value, each
    return ids_KP
