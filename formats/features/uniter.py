"""What UNITER stores of a picture (ChenRocks/UNITER, scripts/convert_imgdir.py), whether in an npz or in an LMDB.

features float16 [n, d]; norm_bb [n, 6]: x1 y1 x2 y2 w h in shares of the picture's sides; conf [n, 1]; soft_labels
[n, c + 1], background first. The size of the picture is nowhere. An array `allow_pickle` is a slip of its writer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from formats.features.record import Array, BrokenError, Record, best_class, matrix, vector

THRESHOLD, LEAST, MOST = 0.2, 10, 100  # of the released databases: conf_th, min_bb, max_bb


def record_of(arrays: Mapping[str, Any], key: str) -> Record:
    """Raises BrokenError or KeyError where the arrays are not as above."""
    missing = [name for name in ("features", "norm_bb") if name not in arrays]
    if missing:
        raise BrokenError(f"there is no array {missing[0]}; there are: {', '.join(sorted(arrays)) or 'none'}")
    count = len(np.atleast_1d(arrays["norm_bb"]))
    features = matrix(arrays["features"], count, None, "features")
    shares = matrix(arrays["norm_bb"], count, 6, "norm_bb")
    probs = matrix(arrays["soft_labels"], count, None, "soft_labels") if "soft_labels" in arrays else None
    ids, scores = (None, None) if probs is None else best_class(probs)
    return Record(
        key=key,
        width=None,
        height=None,
        boxes=shares[:, :4].astype(np.float32),
        features=features,
        class_ids=ids,
        class_scores=vector(arrays["conf"], count, "conf") if "conf" in arrays else scores,
        probs=probs,
    )


def arrays_of(record: Record) -> dict[str, Array]:
    """As UNITER stores it: float16 all."""
    sides = np.array([record.width or 1, record.height or 1] * 2, np.float32)
    corners = np.asarray(record.boxes, np.float32) / sides
    assert record.class_scores is not None
    arrays = {
        "norm_bb": np.concatenate([corners, corners[:, 2:] - corners[:, :2]], axis=1),
        "features": record.features,
        "conf": np.asarray(record.class_scores).reshape(-1, 1),
    }
    if record.probs is not None:
        arrays["soft_labels"] = record.probs
    return {name: np.ascontiguousarray(values, np.float16) for name, values in arrays.items()}


def regions_read(conf: Array) -> int:
    """How many regions UNITER reads of a picture with these confidences: those above 0.2, but 10 to 100."""
    return int(min(MOST, max(LEAST, int((conf > THRESHOLD).sum()))))
