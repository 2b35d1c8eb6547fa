"""How the similarities of a whole table are spread."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Counts: TypeAlias = tuple[npt.NDArray[np.int64], float]  # captions of each bin, and the sum of their similarities

STEP = 0.01  # width of a bin of similarities
BINS = 201  # from −1 to 1, a bin named by the value at which it starts
SHARES = (0.9, 0.7, 0.5, 0.3, 0.1)


def counted(tables: Iterable[pa.Table], argument: None = None) -> Counts:
    """What is counted in a part of the table, to be sent from a worker."""
    counts, total = np.zeros(BINS, np.int64), 0.0
    for table in tables:
        values = pc.drop_null(pc.list_flatten(table["similarity"])).to_numpy().astype(np.float64)
        counts += np.bincount(np.clip((values + 1) / STEP, 0, BINS - 1).astype(np.int64), minlength=BINS)
        total += float(values.sum())
    return counts, total


def described(parts: Iterable[Counts]) -> dict[str, Any]:
    """Captions, their mean similarity, and in `top` from which similarity on so large a share of them lies (0.01)."""
    counts, total = np.zeros(BINS, np.int64), 0.0
    for some, sum_of_some in parts:
        counts, total = counts + some, total + sum_of_some
    captions = int(counts.sum())
    above = counts[::-1].cumsum()[::-1]  # how many lie in a bin or above it
    places = {share: int(np.flatnonzero(above >= share * captions)[-1]) for share in SHARES} if captions else {}
    top = {f"{share:g}": round(place * STEP - 1, 2) for share, place in places.items()}
    return {"captions": captions, "mean": round(total / max(captions, 1), 4), "top": top}
